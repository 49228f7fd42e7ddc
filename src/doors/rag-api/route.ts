import type { FastifyInstance, FastifyRequest, HTTPMethods } from "fastify";
import { invalidArgument, missingParameter, notFound } from "../../errors.ts";
import { limits } from "../../limits.ts";
import type { Calls, Door } from "../../wire/doors/calls.ts";
import { freeJsonLimits } from "../../wire/limits/free-json.ts";
import { BY_CALL } from "../../wire/rest/body.ts";
import { endUploadAfterAnswer } from "../../wire/rest/rest.ts";
import { joinChunks } from "../../api/texts/joined-chunks.ts";
import { readCount, readObject, readText, type Json } from "../json.ts";
import { deleteFiles, listIds, readDocuments, searchFiles, toPair, type Reader } from "./documents.ts";
import { errorBody, errorStatus } from "./errors.ts";
import { embed, extractText } from "./uploads.ts";

/** Results of a query without `k`. */
const K_DEFAULT = 4;

type Handler = (calls: Calls, vectorStoreId: string, request: FastifyRequest) => unknown;

/** rag_api's routes, below `/rag_api/{vector_store_id}`. */
const routes: readonly [verb: HTTPMethods, path: string, handle: Handler][] = [
  ["GET", "/ids", listIds],
  [
    "GET",
    "/documents",
    (calls, store, { query }) => readDocuments(calls, store, readIds(listOf((query as Json)["ids"]), "ids")),
  ],
  [
    "DELETE",
    "/documents",
    async (calls, store, { body }) => {
      const ids = readIds(body, "body");
      await deleteFiles(calls, store, ids);
      return { message: `Documents for ${ids.length} file${ids.length > 1 ? "s" : ""} deleted successfully` };
    },
  ],
  ["GET", "/documents/:file_id/context", readContext],
  [
    "POST",
    "/query",
    (calls, store, { body }) => {
      const json = readObject(body);
      return find(calls, store, json, [readText(json, "file_id")], readEntity(json));
    },
  ],
  [
    "POST",
    "/query_multiple",
    async (calls, store, { body }) => {
      const json = readObject(body);
      const found = await find(calls, store, json, readIds(json["file_ids"], "file_ids"));
      if (found.length === 0) throw notFound("No documents found for the given query");
      return found;
    },
  ],
];

/** rag_api's routes that take forms. */
const uploads: readonly [path: string, handle: Handler][] = [
  ["/embed", embed],
  ["/text", (_calls, _store, request) => extractText(request)],
];

/** Serves the API of LibreChat's rag_api, for each store under a URL of its own. */
export const ragApi: Door = (app, { calls, openApp, health, requestBytesMax }) => {
  const bodyLimit = Math.min(limits.request_bytes_default, requestBytesMax);
  const config = { scope: BY_CALL, errorBody, errorStatus } as const;
  const storeOf = ({ params }: FastifyRequest) => (params as Record<string, string>)["store"] as string;
  // LibreChat asks without its token. The answer says nothing of the store.
  openApp.get("/rag_api/:store/health", async (_request, reply) =>
    (await health.ready()) ? { status: "UP" } : reply.code(503).send({ status: "DOWN" }),
  );
  for (const [method, path, handle] of routes) {
    app.route({
      method,
      url: `/rag_api/:store${path}`,
      bodyLimit,
      config: { ...config, limits: freeJsonLimits(bodyLimit) },
      handler: async (request, reply) => {
        const found = await handle(calls(request, reply, "rag_api"), storeOf(request), request);
        return reply.type("application/json; charset=utf-8").send(JSON.stringify(found));
      },
    });
  }
  // A Fastify scope of its own, without parsers: the handlers read the forms as they come.
  void app.register(async (forms: FastifyInstance) => {
    forms.removeAllContentTypeParsers();
    forms.addContentTypeParser("multipart/form-data", (_request, body, done) => done(null, body));
    for (const [path, handle] of uploads) {
      forms.post(`/rag_api/:store${path}`, { config }, async (request, reply) => {
        endUploadAfterAnswer(request.raw, reply.raw);
        return handle(calls(request, reply, "rag_api"), storeOf(request), request);
      });
    }
  });
};

async function find(calls: Calls, store: string, json: Json, fileIds: readonly string[], reader?: Reader) {
  const count = readCount(json, "k", limits.search_results_max) ?? K_DEFAULT;
  return (await searchFiles(calls, store, fileIds, readText(json, "query"), count, reader)).map(toPair);
}

/** The text of a file below its name. Where it has pages, each begins with a line that says so. */
async function readContext(calls: Calls, store: string, { params }: FastifyRequest): Promise<string> {
  const { file_id: fileId = "" } = params as Record<string, string>;
  const documents = await readDocuments(calls, store, [fileId], "The specified file_id was not found");
  const source = documents[0]?.metadata["source"];
  const pages: { page: number | undefined; chunks: string[] }[] = [];
  for (const { page_content: text, metadata } of documents) {
    const last = pages.at(-1);
    if (last !== undefined && last.page === metadata.page) last.chunks.push(text);
    else pages.push({ page: metadata.page, chunks: [text] });
  }
  const texts = pages.map(({ page, chunks }) =>
    page === undefined ? joinChunks(chunks) : `\n# PAGE ${page}\n\n${joinChunks(chunks)}`,
  );
  return `${typeof source === "string" ? source : ""}\n${texts.join("")}`.trim();
}

/** A parameter of a query string that may be repeated. */
function listOf(value: unknown): unknown {
  return typeof value === "string" ? [value] : value;
}

function readIds(value: unknown, name: string): string[] {
  if (value === undefined || value === null) throw missingParameter(name);
  if (Array.isArray(value) && value.length > 0 && value.every((id) => typeof id === "string")) return value;
  throw invalidArgument(name, `Invalid '${name}': expected a list of texts.`, "INVALID_TYPE");
}

function readEntity(json: Json): Reader {
  const isAbsent = (json["entity_id"] ?? "") === "";
  return { entityId: isAbsent ? undefined : readText(json, "entity_id") };
}
