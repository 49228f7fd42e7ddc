import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  EmbedResponseSchema,
  EncodingFormat,
  ListModelsResponseSchema,
  ModelSchema,
  type EmbedRequest,
  type Model,
  type ModelService,
} from "../../gen/pgquiver/v1/models_pb.ts";
import { principal } from "../api/principal.ts";
import { readInput } from "./input.ts";
import { invalidArgument, missingParameter, modelNotFound } from "../errors.ts";
import { limits } from "../limits.ts";
import { isBuiltIn, type Embedder } from "./embedder.ts";

/** Implements ModelService: embeds texts for callers, and describes the configured model. */
export function modelService(embedder: Embedder): ServiceImpl<typeof ModelService> {
  return {
    async embed(request, { signal, values }) {
      const texts = await readInput(request.input, embedder.model);
      checkModelName(embedder, request.model);
      checkFormat(request.encodingFormat);
      checkDimensions(request, embedder.dimensions);
      checkReplySize(texts, embedder.dimensions);
      const { vectors, tokens } = await embedder.embed(texts, signal, "bounded", values.get(principal));
      // Checked again with the actual dimensions: before the request they are known only if configured.
      const dimensions = (vectors[0] as Float32Array).length;
      checkDimensions(request, dimensions);
      checkReplySize(texts, dimensions);
      const response = create(EmbedResponseSchema, {
        object: "list",
        data: vectors.map((_, index) => ({ object: "embedding", index })),
        model: embedder.model,
        usage: { promptTokens: BigInt(tokens), totalTokens: BigInt(tokens) },
      });
      // Assigned afterwards, because `create` would copy every number.
      for (const [index, item] of response.data.entries())
        item.embedding = vectors[index] as unknown as number[];
      return response;
    },

    async listModels() {
      return create(ListModelsResponseSchema, { object: "list", data: [describeModel(embedder)] });
    },

    async getModel({ model }) {
      checkModelName(embedder, model);
      return describeModel(embedder);
    },
  };
}

function describeModel({ model }: Embedder): Model {
  const ownedBy = isBuiltIn(model) ? "pgquiver" : "provider";
  return create(ModelSchema, { id: model, object: "model", ownedBy });
}

/** Throws unless the name is the configured model's, with or without LiteLLM's routing prefixes. */
function checkModelName(embedder: Embedder, model: string): void {
  if (model === "") throw missingParameter("model");
  if (model.replace(/^(?:openai|litellm_proxy)\//, "") !== embedder.model) throw modelNotFound(model);
}

function checkFormat(format: EncodingFormat | undefined): void {
  if (format === undefined || Object.values<EncodingFormat>(EncodingFormat).includes(format)) return;
  throw invalidArgument(
    "encoding_format",
    `Invalid value: '${format}'. Supported values are: 'float', 'base64'.`,
  );
}

function checkDimensions({ dimensions, model }: EmbedRequest, actual: number | undefined): void {
  if (dimensions === undefined || actual === undefined || dimensions === actual) return;
  throw invalidArgument(
    "dimensions",
    `Invalid 'dimensions': the embeddings of model '${model}' have ${actual} dimensions (EMBEDDING__DIMENSIONS), but ${dimensions} were asked for.`,
  );
}

function checkReplySize(texts: readonly string[], dimensions: number | undefined): void {
  if (dimensions === undefined || texts.length * dimensions <= limits.embed_numbers_max) return;
  const textsMax = Math.floor(limits.embed_numbers_max / dimensions);
  throw invalidArgument(
    "input",
    `Invalid 'input': array too long. Expected at most ${textsMax} texts for embeddings of ${dimensions} dimensions, but got ${texts.length} instead.`,
    "ARRAY_ABOVE_MAX_LENGTH",
  );
}
