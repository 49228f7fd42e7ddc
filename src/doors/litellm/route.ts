import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { invalidArgument } from "../../errors.ts";
import { limits } from "../../limits.ts";
import type { Calls, Door } from "../../wire/doors/calls.ts";
import type { HttpError } from "../../wire/error.ts";
import { freeJsonLimits } from "../../wire/limits/free-json.ts";
import { BY_CALL } from "../../wire/rest/body.ts";
import { readFormAs } from "../../wire/rest/multipart.ts";
import { endUploadAfterAnswer } from "../../wire/rest/rest.ts";
import { readObject, type Json } from "../json.ts";
import { ingest, metadataOf, readEncodedFile, readIngestRequest, type IngestRequest } from "./ingest.ts";
import { query } from "./query.ts";

/** Serves the RAG endpoints of LiteLLM's proxy. */
export const litellm: Door = (app, { calls, requestBytesMax }) => {
  const queryBytesMax = Math.min(limits.request_bytes_default, requestBytesMax);
  const config = { scope: BY_CALL, errorBody } as const;
  for (const prefix of ["", "/v1"]) {
    app.route({
      method: "POST",
      url: `${prefix}/rag/query`,
      bodyLimit: queryBytesMax,
      config: { ...config, limits: freeJsonLimits(queryBytesMax) },
      handler: (request, reply) => query(calls(request, reply, "litellm"), readObject(request.body)),
    });
    // A Fastify scope of its own, whose parser of forms leaves the body to the handler.
    void app.register(async (forms: FastifyInstance) => {
      forms.addContentTypeParser("multipart/form-data", (_request, body, done) => done(null, body));
      forms.route({
        method: "POST",
        url: `${prefix}/rag/ingest`,
        bodyLimit: requestBytesMax,
        config: { ...config, limits: freeJsonLimits(requestBytesMax) },
        handler: (request, reply) => answerIngest(calls(request, reply, "litellm"), request, reply),
      });
    });
  }
};

async function answerIngest(calls: Calls, request: FastifyRequest, reply: FastifyReply): Promise<Json> {
  if (request.headers["content-type"]?.startsWith("multipart/form-data") === true) {
    endUploadAfterAnswer(request.raw, reply.raw);
    let read: IngestRequest | undefined;
    const upload = readFormAs(request, isField, (filename, texts) => {
      read = readIngestRequest(toJson(texts));
      return metadataOf(filename);
    });
    return ingest(calls, upload, () => read as IngestRequest);
  }
  const json = readObject(request.body);
  const read = readIngestRequest(json);
  const hasFile = json["file"] !== undefined && json["file"] !== null;
  return ingest(calls, hasFile ? readEncodedFile(json) : undefined, () => read);
}

/** The parts of a form beside the file: the whole request as JSON, or its options alone. */
const FIELDS = ["request", "ingest_options"];

function isField(name: string): boolean {
  return FIELDS.includes(name);
}

function toJson(texts: ReadonlyMap<string, string>): Json {
  const parse = (name: string): unknown => {
    try {
      return JSON.parse(texts.get(name) ?? "{}") as unknown;
    } catch {
      throw invalidArgument(name, `Invalid '${name}': expected JSON.`, "INVALID_JSON");
    }
  };
  const options = texts.has("ingest_options") ? { ingest_options: parse("ingest_options") } : {};
  return { ...readObject(parse("request"), "request"), ...options };
}

/** LiteLLM's clients find the message under `detail.error` of its routes' errors, and under `error` of the proxy's. */
function errorBody({ body }: HttpError): unknown {
  return { ...body, detail: { error: body.error.message } };
}
