/**
 * The least that a service in Node can do for a call over gRPC: HTTP/2 by Node, one message in and one out by protobufjs, one
 * prepared statement by node-postgres in between. No key, no limits, no deadline, no log, no check of the store; a row that is
 * written is counted nowhere.
 */
import { once } from "node:events";
import { createServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { MethodDefinition, ServiceDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import pg from "pg";
import { encodeVector } from "../../src/postgres/copy.ts";
import { SEARCH_SETTINGS } from "../../src/postgres/search-settings.ts";
import type { Statements } from "./bare.ts";

const PREFIX_BYTES = 5;

/** The fields of requests that are read. */
interface Request {
  vectorStoreId: string;
  embeddingId: string;
  embedding: number[];
  efSearch?: number;
  filters?: { value: { numberValue: number } };
}

interface Insertion {
  vectorStoreId: string;
  embedding: {
    id: string;
    content: string;
    embedding: number[];
    metadata: { fields: { position: { numberValue: number } } };
  };
}

interface Row {
  id: string;
  content: string;
  distance: number;
}

const { DATABASE_URL: connectionString, STATEMENTS = "" } = process.env;
const statements = JSON.parse(STATEMENTS) as Statements;

const root = join(import.meta.dirname, "../..");
const services = loadSync(["pgquiver/v1/search.proto", "pgquiver/v1/embeddings.proto"], {
  includeDirs: [join(root, "proto"), join(root, "node_modules/protobufjs")],
});
const methodOf = (service: string, name: string) =>
  (services[`pgquiver.v1.${service}`] as ServiceDefinition)[name] as MethodDefinition<object, object>;

const pools = new Map<number, pg.Pool>();

function openPool(efSearch = 0): pg.Pool {
  let pool = pools.get(efSearch);
  if (pool === undefined) {
    const settings = { ...SEARCH_SETTINGS, ...(efSearch > 0 && { "hnsw.ef_search": efSearch }) };
    const options = Object.entries(settings).map(([name, value]) => `-c ${name}=${value}`);
    pool = new pg.Pool({ connectionString, options: options.join(" ") });
    pools.set(efSearch, pool);
  }
  return pool;
}

async function search({ vectorStoreId, embedding, efSearch, filters }: Request): Promise<object> {
  const vector = encodeVector(Float32Array.from(embedding));
  const pool = openPool(efSearch);
  const { rows } =
    // Not prepared: for some values of a filter another plan is best.
    filters !== undefined
      ? await pool.query<Row>(statements.filtered, [vector, filters.value.numberValue])
      : vectorStoreId === statements.storeId
        ? await pool.query<Row>({ name: "nearest", text: statements.nearest, values: [vector] })
        : await pool.query<Row>({ name: "small", text: statements.small, values: [vector, vectorStoreId] });
  const data = rows.map(({ id, content, distance }) => ({
    id,
    fileId: id,
    score: 1 - distance / 2,
    content: [{ type: "text", text: content }],
  }));
  return { object: "vector_store.search_results.page", data };
}

async function insert({ vectorStoreId, embedding: row }: Insertion): Promise<object> {
  const vector = encodeVector(Float32Array.from(row.embedding));
  const metadata = { position: row.metadata.fields.position.numberValue };
  const values = [vectorStoreId, row.id, row.content, vector, metadata];
  await openPool().query({ name: "insert", text: statements.insert, values });
  return { id: row.id, content: row.content };
}

async function remove({ vectorStoreId, embeddingId }: Request): Promise<object> {
  const values = [vectorStoreId, embeddingId];
  const { rowCount } = await openPool().query({ name: "delete", text: statements.delete, values });
  return { id: embeddingId, deleted: rowCount === 1 };
}

const calls = new Map(
  [
    { method: methodOf("SearchService", "Search"), run: search },
    { method: methodOf("EmbeddingService", "CreateEmbedding"), run: insert },
    { method: methodOf("EmbeddingService", "DeleteEmbedding"), run: remove },
  ].map(({ method, run }) => [method.path, { method, run: run as (request: object) => Promise<object> }]),
);

async function serve(stream: ServerHttp2Stream, path: string): Promise<void> {
  const { method, run } = calls.get(path) as NonNullable<ReturnType<typeof calls.get>>;
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(stream, "end");
  const request = method.requestDeserialize(Buffer.concat(chunks).subarray(PREFIX_BYTES));
  const message = method.responseSerialize(await run(request));
  const body = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  body.writeUInt8(0);
  body.writeUInt32BE(message.length, 1);
  message.copy(body, PREFIX_BYTES);
  stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
  stream.end(body);
}

const server = createServer();
server.on("stream", (stream, headers) => void serve(stream, headers[":path"] as string));
server.listen(0, "127.0.0.1", () => {
  process.stdout.write(`Listening on http://127.0.0.1:${(server.address() as AddressInfo).port}\n`);
});
process.once("SIGTERM", () => process.exit(0));
