/**
 * The least that a service in Node can do for a search over gRPC: HTTP/2 by Node, one message in and one out by protobufjs,
 * one prepared statement by node-postgres in between. No key, no limits, no deadline, no log, no check of the store.
 */
import { once } from "node:events";
import { createServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { ServiceDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import pg from "pg";
import { encodeVector } from "../../src/postgres/copy.ts";
import { SEARCH_SETTINGS } from "../../src/postgres/search-settings.ts";

const PREFIX_BYTES = 5;

interface Request {
  embedding: number[];
  efSearch: number;
}

interface Row {
  id: string;
  content: string;
  distance: number;
}

const { DATABASE_URL: connectionString, STATEMENT: text = "" } = process.env;

const root = join(import.meta.dirname, "../..");
const { Search } = loadSync("pgquiver/v1/search.proto", {
  includeDirs: [join(root, "proto"), join(root, "node_modules/protobufjs")],
})["pgquiver.v1.SearchService"] as ServiceDefinition;
const rpc = Search as NonNullable<typeof Search>;

const pools = new Map<number, pg.Pool>();

function openPool(efSearch: number): pg.Pool {
  let pool = pools.get(efSearch);
  if (pool === undefined) {
    const settings = { ...SEARCH_SETTINGS, "hnsw.ef_search": efSearch };
    const options = Object.entries(settings).map(([name, value]) => `-c ${name}=${value}`);
    pool = new pg.Pool({ connectionString, options: options.join(" ") });
    pools.set(efSearch, pool);
  }
  return pool;
}

async function serve(stream: ServerHttp2Stream): Promise<void> {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(stream, "end");
  const request = rpc.requestDeserialize(Buffer.concat(chunks).subarray(PREFIX_BYTES)) as unknown as Request;
  const values = [encodeVector(Float32Array.from(request.embedding))];
  const { rows } = await openPool(request.efSearch).query<Row>({ name: "nearest", text, values });
  const data = rows.map(({ id, content, distance }) => ({
    id,
    fileId: id,
    score: 1 - distance / 2,
    content: [{ type: "text", text: content }],
  }));
  const message = rpc.responseSerialize({ object: "vector_store.search_results.page", data });
  const body = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  body.writeUInt8(0);
  body.writeUInt32BE(message.length, 1);
  message.copy(body, PREFIX_BYTES);
  stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
  stream.end(body);
}

const server = createServer();
server.on("stream", (stream) => void serve(stream));
server.listen(0, "127.0.0.1", () => {
  process.stdout.write(`Listening on http://127.0.0.1:${(server.address() as AddressInfo).port}\n`);
});
process.once("SIGTERM", () => process.exit(0));
