import { create } from "@bufbuild/protobuf";
import type { Value } from "@bufbuild/protobuf/wkt";
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
import { checkLength } from "../api/checks.ts";
import { invalidArgument, missingParameter, modelNotFound } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Embedder } from "./embedder.ts";
import { LEXICAL_MODEL } from "./lexical.ts";

/** Embeds texts for callers, and names the one model there is. */
export function modelService(embedder: Embedder): ServiceImpl<typeof ModelService> {
  return {
    async embed(request, { signal }) {
      const texts = readInput(request.input);
      checkModelName(embedder, request.model);
      checkFormat(request.encodingFormat);
      checkDimensions(request, embedder.dimensions);
      checkReplySize(texts, embedder.dimensions);
      const { vectors, tokens } = await embedder.embed(texts, signal);
      // The length is known before only where it is configured.
      const dimensions = (vectors[0] as Float32Array).length;
      checkDimensions(request, dimensions);
      checkReplySize(texts, dimensions);
      const response = create(EmbedResponseSchema, {
        object: "list",
        data: vectors.map((_, index) => ({ object: "embedding", index })),
        model: embedder.model,
        usage: { promptTokens: BigInt(tokens), totalTokens: BigInt(tokens) },
      });
      // Not by `create`, which would copy every number.
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
  const ownedBy = model === LEXICAL_MODEL ? "pgquiver" : "provider";
  return create(ModelSchema, { id: model, object: "model", ownedBy });
}

/** LiteLLM routes by a prefix, which the embedder's own name has lost. */
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

/** The texts: 1 to 2,048, none empty, of up to 8 MiB together. */
function readInput(input: Value | undefined): string[] {
  const { kind } = input ?? {};
  if (kind === undefined || kind.case === undefined || kind.case === "nullValue")
    throw missingParameter("input");
  if (kind.case === "listValue") checkLength("input", kind.value.values.length, limits.embed_texts_max);
  const texts =
    kind.case === "listValue"
      ? kind.value.values.map((value, index) => readText(value, `input[${index}]`))
      : [readText(input, "input")];
  if (texts.length === 0) throw missingParameter("input");
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  if (bytes > limits.embed_bytes_max) {
    const message = `Invalid 'input': too much text. Expected at most ${limits.embed_bytes_max} bytes, but got ${bytes} instead.`;
    throw invalidArgument("input", message, "STRING_ABOVE_MAX_LENGTH");
  }
  return texts;
}

function readText(value: Value | undefined, param: string): string {
  const kind = value?.kind;
  if (kind?.case !== "stringValue") {
    const isTokens = kind?.case === "numberValue" || kind?.case === "listValue";
    throw invalidArgument(
      param,
      isTokens
        ? `Invalid '${param}': arrays of tokens are not supported. Send texts.`
        : `Invalid type for '${param}': expected a text or an array of texts.`,
      "INVALID_TYPE",
    );
  }
  if (kind.value === "")
    throw invalidArgument(param, `Invalid '${param}': expected a text that is not empty.`);
  if (!kind.value.isWellFormed()) {
    throw invalidArgument(
      param,
      `Invalid '${param}': the text has a lone surrogate and is not valid Unicode.`,
    );
  }
  return kind.value;
}
