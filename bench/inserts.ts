import type pg from "pg";
import { encodeVector } from "../src/postgres/copy.ts";
import { connectGrpc, connectRest, type GrpcClient, type RestClient } from "./support/clients.ts";
import { createDatabase } from "./support/database.ts";
import { createPoints } from "./support/points.ts";
import { startReport, type Columns } from "./support/report.ts";
import { compare, ownCpuMs, type Contender } from "./support/rounds.ts";
import { toBase64 } from "./support/searches.ts";
import { startServer } from "./support/server.ts";
import { makeStore } from "./support/store.ts";

const ROWS = 20_000;
const DIMENSIONS = 384;
const ROUNDS = 5;
/** Writers of one store, and how many rows they write together in a round of each contender. */
const WRITERS = [
  [1, 200],
  [8, 800],
  [64, 1_600],
] as const;
const STORES = [
  { id: "indexed", precision: "float16", title: "with an index" },
  { id: "plain", precision: "none", title: "without an index" },
] as const;

const points = createPoints({ dimensions: DIMENSIONS, clusters: 200, seed: 1 });
/** The number of the next new row: no two calls write the same one. */
let next = 10_000_000;

async function main(): Promise<void> {
  await using database = await createDatabase();
  await using server = await startServer(database.url);
  using rest = connectRest(server);
  using grpc = connectGrpc(server);
  const pool = database.openPool();
  const report = startReport("inserts", database.version);
  for (const { id, precision, title } of STORES) {
    await makeStore(server, { id, points, rows: ROWS, precision });
    const contenders = await makeContenders(pool, rest, grpc, id);
    for (const [concurrency, calls] of WRITERS) {
      const results = await compare(contenders, { rounds: ROUNDS, calls, concurrency, cpuMs: server.cpuMs });
      const writers = `${concurrency} writer${concurrency === 1 ? "" : "s"}`;
      report.add(`${ROWS} rows of ${DIMENSIONS} dimensions ${title}, ${writers}`, results, columns);
    }
  }
  report.finish();
}

const columns: Columns = {
  "rows/s": ({ callsPerSecond }) => callsPerSecond.toFixed(0),
  "of the floor": ({ ratio }) => ratio.toFixed(2),
  "p50 ms": ({ p50Ms }) => p50Ms.toFixed(2),
  "p99 ms": ({ p99Ms }) => p99Ms.toFixed(2),
  "server CPU ms": ({ cpuMsPerCall }) => cpuMsPerCall.toFixed(2),
};

async function makeContenders(
  pool: pg.Pool,
  rest: RestClient,
  grpc: GrpcClient,
  store: string,
): Promise<Contender[]> {
  const { rows } = await pool.query<{ own_table: string | null }>(
    "select own_table from vector_stores where id = $1",
    [store],
  );
  const table = rows[0]?.own_table ?? "embeddings";
  const rpc = "EmbeddingService/CreateEmbedding";
  return [
    {
      name: "INSERT by node-postgres (floor)",
      cpuMs: ownCpuMs,
      ...counted(pool, `select count(*) from only ${table} where vector_store_id = $1`, store),
      call: () => insertBySql(pool, table, store),
    },
    {
      name: "REST, vector in base64",
      ...counted(pool, "select embedding_count as count from vector_stores where id = $1", store),
      call: () => {
        const { content, metadata, vector } = makeRow();
        const body = JSON.stringify({ content, metadata, embedding: toBase64(vector) });
        return rest.post(`/v1/vector_stores/${store}/embeddings`, Buffer.from(body));
      },
    },
    {
      name: "gRPC",
      ...counted(pool, "select embedding_count as count from vector_stores where id = $1", store),
      call: () => {
        const { content, metadata, vector } = makeRow();
        const fields = { position: { numberValue: metadata.position } };
        const embedding = { content, metadata: { fields }, embedding: Array.from(vector) };
        return grpc.send(rpc, grpc.encode(rpc, { vector_store_id: store, embedding }));
      },
    },
  ];
}

/** Verifies after each round that the count, which `statement` reads, has grown by the round's calls. */
function counted(
  pool: pg.Pool,
  statement: string,
  store: string,
): Required<Pick<Contender, "prepare" | "verify">> {
  let before = 0;
  const read = async () => Number((await pool.query<{ count: string }>(statement, [store])).rows[0]?.count);
  return {
    async prepare() {
      before = await read();
    },
    async verify(calls) {
      const added = (await read()) - before;
      if (added !== calls) throw new Error(`There are ${added} more rows after ${calls} inserts.`);
    },
  };
}

function makeRow() {
  const position = next++;
  return { content: `text ${position}`, metadata: { position }, vector: points.at(position) };
}

async function insertBySql(pool: pg.Pool, table: string, store: string): Promise<void> {
  const { content, metadata, vector } = makeRow();
  await pool.query({
    name: `insert into ${table}`,
    text: `insert into ${table} (vector_store_id, id, content, embedding, metadata, created_at) values ($1, $2, $3, $4::vector, $5, now())`,
    values: [store, `floor-${metadata.position}`, content, encodeVector(vector), metadata],
  });
}

await main();
