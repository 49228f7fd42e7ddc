import { fromJson, toJson, type DescMethod, type JsonObject, type Message } from "@bufbuild/protobuf";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, expect, test } from "vitest";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { IndexState, type Index } from "../../../gen/pgquiver/v1/indexes_pb.ts";
import { IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { ProjectDataService } from "../../../gen/pgquiver/v1/project_data_pb.ts";
import { createLexicalEmbedder } from "../../../src/models/lexical.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { services as unaryServices } from "../../support/clients/dialect.ts";
import { startServer } from "../../support/servers/server.ts";

/** Every RPC by a project that may hold one connection at a time: none needs a second one while it holds one. */
const database = await openTestDatabase();
const server = await startServer({ database, apiKeys: ["a-key"], indexes: { isWorking: true } });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
});

const methods = [...unaryServices, FileService, IngestService, ProjectDataService].flatMap(
  (service) => service.methods,
);
const transport = createGrpcTransport({ baseUrl: server.url });

/** What earlier replies have told, by the name of the field that takes it. */
type Told = Record<
  "file_id" | "new_file_id" | "upload_id" | "part_id" | "batch_id" | "project_id" | "api_key_id",
  string
>;

const { model } = createLexicalEmbedder();
const s = { vector_store_id: "s" };
const e = { ...s, embedding_id: "a" };
const filters = { type: "FILTER_TYPE_EQ", key: "n", value: 1 };
const row = (id: string) => ({ id, content: `text ${id}`, metadata: { n: 1 } });
const ingest = (open: object) => [
  { open: { ...s, ...open } },
  { batch: { seq: 1, rows: [row(`${JSON.stringify(open).length}`), row("b")] } },
  { batch: { seq: 2, rows: [row(`${JSON.stringify(open).length}x`)] } },
  { finish: { rows: 3 } },
];

const upload = (filename: string) => [{ metadata: { filename, purpose: "assistants" } }, { data: "YQ==" }];
const announced = { bytes: 1, filename: "c.txt", mime_type: "text/plain", purpose: "assistants" };

type Call = [rpc: string, requests: (told: Told) => object | object[], keep?: keyof Told];

/** Gives the store a table of its own. */
const moves: Call[] = [
  ["UpdateIndex", () => ({ ...s, policy: "INDEX_POLICY_ALWAYS", update_mask: "policy" })],
  ["WatchIndex", () => s],
];

/** The requests of each RPC, and what is kept of the reply; in this order, because later ones need what earlier ones make. */
const calls: Call[] = [
  ["GetCaller", () => ({})],
  ["CreateProject", () => ({ name: "Team" }), "project_id"],
  ["ListProjects", () => ({})],
  ["GetProject", ({ project_id }) => ({ project_id })],
  ["UpdateProject", ({ project_id }) => ({ project_id, quotas: { max_stores: 3 } })],
  ["CreateApiKey", ({ project_id }) => ({ project_id, name: "k", scopes: ["search"] }), "api_key_id"],
  ["ListApiKeys", ({ project_id }) => ({ project_id })],
  ["GetApiKey", ({ project_id, api_key_id }) => ({ project_id, api_key_id })],
  [
    "UpdateApiKey",
    ({ project_id, api_key_id }) => ({ project_id, api_key_id, name: "n", update_mask: "name" }),
  ],
  ["DeleteApiKey", ({ project_id, api_key_id }) => ({ project_id, api_key_id })],
  ["ArchiveProject", ({ project_id }) => ({ project_id })],
  ["EraseProject", ({ project_id }) => ({ project_id })],
  ["GetProjectErasure", ({ project_id }) => ({ project_id })],
  ["ListModels", () => ({})],
  ["GetModel", () => ({ model })],
  ["Embed", () => ({ model, input: ["a", "b"] })],
  ["CreateVectorStore", () => ({ id: "s" })],
  ["GetVectorStore", () => s],
  ["ListVectorStores", () => ({})],
  ["UpdateVectorStore", () => ({ ...s, name: "n", update_mask: "name" })],
  ["CreateVectorStoreAlias", () => ({ ...s, name: "live" })],
  ["GetVectorStoreAlias", () => ({ name: "live" })],
  ["ListVectorStoreAliases", () => ({})],
  ["UpdateVectorStoreAlias", () => ({ ...s, name: "live" })],
  ["DeleteVectorStoreAlias", () => ({ name: "live" })],
  ["CreateVectorStore", () => ({ id: "r" })],
  ["CreateEmbedding", () => ({ vector_store_id: "r", embedding: { ...row("a"), embedding: [1] } })],
  ["ReembedVectorStore", () => ({ vector_store_id: "r" })],
  ["GetVectorStoreReembedding", () => ({ vector_store_id: "r" })],
  ["WatchVectorStoreReembedding", () => ({ vector_store_id: "r" })],
  ["CancelVectorStoreReembedding", () => ({ vector_store_id: "r" })],
  ["CreateEmbedding", () => ({ ...s, embedding: row("a") })],
  // On a cluster, from here on the store has its table on a worker.
  ...(database.citus === undefined ? [] : moves),
  ["BatchCreateEmbeddings", () => ({ ...s, embeddings: [row("a"), row("b")], mode: "WRITE_MODE_UPSERT" })],
  [
    "BatchCreateEmbeddings",
    () => ({ ...s, embeddings: Array.from({ length: 400 }, (_, n) => row(`r${n}`)) }),
  ],
  ["GetEmbedding", () => e],
  ["ListEmbeddings", () => s],
  ["QueryEmbeddings", () => ({ ...s, filters })],
  ["CountEmbeddings", () => ({ ...s, filters })],
  ["FacetEmbeddings", () => ({ ...s, attributes: ["n"] })],
  ["UpdateEmbedding", () => ({ ...e, content: "new", update_mask: "content" })],
  ["Search", () => ({ ...s, query: ["text"] })],
  ["BatchSearch", () => ({ ...s, searches: [{ query: ["a", "b"] }, { query: ["c"], filters }] })],
  ["SearchVectorStores", () => ({ vector_store_ids: ["s"], query: ["text", "a"] })],
  ["Ingest", () => ingest({ ingest_id: "one" })],
  [
    "IngestSession",
    () => ingest({ ingest_id: "whole", atomicity: "ATOMICITY_STREAM", mode: "WRITE_MODE_UPSERT" }),
  ],
  ["GetIngest", () => ({ ...s, ingest_id: "one" })],
  ["ListIngests", () => s],
  ["WatchIngest", () => ({ ...s, ingest_id: "one" })],
  ["AbortIngest", () => ({ ...s, ingest_id: "open" })],
  ["ExportEmbeddings", () => s],
  ["UploadFile", () => upload("a.txt"), "file_id"],
  ["GetFile", ({ file_id }) => ({ file_id })],
  ["ListFiles", () => ({})],
  ["GetFileContent", ({ file_id }) => ({ file_id })],
  ["CreateVectorStoreFile", ({ file_id }) => ({ ...s, file_id })],
  ["WatchVectorStoreFile", ({ file_id }) => ({ ...s, file_id })],
  ["GetVectorStoreFile", ({ file_id }) => ({ ...s, file_id })],
  ["ListVectorStoreFiles", () => s],
  ["UpdateVectorStoreFile", ({ file_id }) => ({ ...s, file_id, attributes: { n: 2 } })],
  ["GetVectorStoreFileContent", ({ file_id }) => ({ ...s, file_id })],
  ["CreateVectorStoreFileBatch", ({ file_id }) => ({ ...s, file_ids: [file_id] }), "batch_id"],
  ["GetVectorStoreFileBatch", ({ batch_id }) => ({ ...s, batch_id })],
  ["WatchVectorStoreFileBatch", ({ batch_id }) => ({ ...s, batch_id })],
  ["ListVectorStoreFileBatchFiles", ({ batch_id }) => ({ ...s, batch_id })],
  ["CancelVectorStoreFileBatch", ({ batch_id }) => ({ ...s, batch_id })],
  ["UploadFile", () => upload("b.txt"), "new_file_id"],
  ["ReplaceVectorStoreFile", ({ file_id, new_file_id }) => ({ ...s, file_id, new_file_id })],
  ["WatchVectorStoreFile", ({ new_file_id }) => ({ ...s, file_id: new_file_id })],
  ["DeleteVectorStoreFile", ({ new_file_id }) => ({ ...s, file_id: new_file_id })],
  ["CreateUpload", () => announced, "upload_id"],
  ["AddUploadPart", ({ upload_id }) => [{ metadata: { upload_id } }, { data: "YQ==" }], "part_id"],
  ["CompleteUpload", ({ upload_id, part_id }) => ({ upload_id, part_ids: [part_id] })],
  ["CreateUpload", () => announced, "upload_id"],
  ["CancelUpload", ({ upload_id }) => ({ upload_id })],
  ["ExportProject", () => ({ project_id: "default" })],
  ["DeleteFile", ({ file_id }) => ({ file_id })],
  ["GetIndex", () => s],
  ...moves,
  ["RebuildIndex", () => s],
  ["DeleteEmbedding", () => e],
  ["BatchDeleteEmbeddings", () => ({ ...s, embedding_ids: ["b"] })],
  ["PurgeEmbeddings", () => ({ ...s, filters })],
  ["DeleteVectorStore", () => s],
  ["GetEmbeddingsUsage", () => ({ start_time: 1 })],
  ["GetVectorStoresUsage", () => ({ start_time: 1 })],
  ["ListAuditLogs", () => ({})],
  ["Diagnose", () => ({})],
];

async function* each(messages: readonly Message[]) {
  yield* messages;
}

async function ask(method: DescMethod, requests: object): Promise<JsonObject> {
  const list = Array.isArray(requests) ? (requests as JsonObject[]) : [requests as JsonObject];
  const messages = list.map((request) => fromJson(method.input, request));
  const headers = { authorization: "Bearer a-key" };
  let last: Message | undefined;
  if (method.methodKind === "unary") {
    const reply = await transport.unary(method as never, undefined, 60_000, headers, messages[0] as never);
    last = reply.message;
  } else {
    const reply = await transport.stream(
      method as never,
      undefined,
      60_000,
      headers,
      each(messages) as never,
    );
    // An index has no last state.
    for await (const message of reply.message) {
      last = message;
      if ((message as Partial<Index>).state === IndexState.READY) break;
    }
  }
  return last === undefined ? {} : (toJson(method.output, last, { useProtoFieldName: true }) as JsonObject);
}

const find = (rpc: string) => methods.find(({ name }) => name === rpc) as DescMethod;

test("every RPC works with one connection", async () => {
  await ask(find("UpdateProject"), { project_id: "default", limits: { max_connection_percent: 1 } });
  const told = {} as Told;
  for (const [rpc, requests, keep] of calls) {
    if (rpc === "AbortIngest") {
      // Without `finish`, and so left open.
      await ask(find("Ingest"), [{ open: { ...s, ingest_id: "open" } }]);
    }
    const reply = await ask(find(rpc), requests(told)).catch((cause: unknown) => {
      throw new Error(`${rpc} failed`, { cause });
    });
    if (keep !== undefined) told[keep] = reply["id"] as string;
  }
  expect(new Set(calls.map(([rpc]) => rpc))).toEqual(new Set(methods.map(({ name }) => name)));
}, 120_000);

test("calls of one connection's project at the same time follow each other", async () => {
  await ask(find("CreateVectorStore"), { id: "t" });
  const t = { vector_store_id: "t" };
  const add = (n: number) =>
    ask(find("CreateEmbedding"), { ...t, embedding: { ...row(`${n}`), id: `t${n}` } });
  await add(0);
  const all = Array.from({ length: 6 }, (_, n) => [
    add(n + 1),
    ask(find("Search"), { ...t, query: ["text", "a", "b"] }),
    ask(find("GetVectorStore"), t),
  ]);
  await Promise.all(all.flat());
  expect(await ask(find("CountEmbeddings"), t)).toMatchObject({ count: "7" });
}, 120_000);
