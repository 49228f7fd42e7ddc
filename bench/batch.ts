import type pg from "pg";
import { connectGrpc, connectRest, type GrpcClient } from "./support/clients.ts";
import { createDatabase, execute, type BenchDatabase } from "./support/database.ts";
import { createEmbeddingsBatch, TABLES } from "./support/litellm-pgvector.ts";
import { createRandom, makeTexts, makeVectors } from "./support/random.ts";
import { startReport, type Columns } from "./support/report.ts";
import { compare, type Contender } from "./support/rounds.ts";
import { startServer, type BenchServer } from "./support/server.ts";
import { createStore, deleteStore } from "./support/store.ts";

const REQUEST_ROWS = 100;
const DIMENSIONS = 1536;
/** Number of distinct requests, sent in rotation. */
const REQUESTS = 10;
const WORDS = 40;
const ROUNDS = 5;
const CALLS = 40;
const STORE = "bench";

interface Row {
  content: string;
  embedding: number[];
  topic: string;
}

async function main(): Promise<void> {
  await using database = await createDatabase();
  await using server = await startServer(database.url);
  using rest = connectRest(server);
  using grpc = connectGrpc(server);
  const own = database.openPool();
  const litellm = await createLitellmTables(database);
  const report = startReport("batch", database.version);

  const batches = makeBatches();
  const json = batches.map((rows) => toJson({ embeddings: rows.map((row) => toInput(row, row.embedding)) }));
  const base64 = batches.map((rows) =>
    toJson({ embeddings: rows.map((row) => toInput(row, toBase64(row.embedding))) }),
  );
  const messages = batches.map((rows) => encodeBatch(grpc, rows));
  const path = `/v1/vector_stores/${STORE}/embeddings/batch`;
  const contenders: Contender[] = [
    {
      name: "litellm-pgvector's SQL (floor)",
      ...inEmptyTable(litellm),
      call: (index) => createEmbeddingsBatch(litellm, STORE, pick(json, index)),
    },
    {
      name: "REST, vectors as numbers",
      ...inNewStore(server, own),
      call: (index) => rest.post(path, pick(json, index)),
    },
    {
      name: "REST, vectors in base64",
      ...inNewStore(server, own),
      call: (index) => rest.post(path, pick(base64, index)),
    },
    {
      name: "gRPC",
      ...inNewStore(server, own),
      call: (index) => grpc.send("EmbeddingService/BatchCreateEmbeddings", pick(messages, index)),
    },
  ];
  for (const concurrency of [1, 4]) {
    const results = await compare(contenders, {
      rounds: ROUNDS,
      calls: CALLS,
      concurrency,
      cpuMs: server.cpuMs,
    });
    report.add(`Batches of ${REQUEST_ROWS} rows, concurrency ${concurrency}`, results, columns);
  }
  report.finish();
}

const columns: Columns = {
  "rows/s": ({ callsPerSecond }) => (callsPerSecond * REQUEST_ROWS).toFixed(0),
  "times the floor": ({ ratio }) => ratio.toFixed(1),
  "p50 ms a request": ({ p50Ms }) => p50Ms.toFixed(0),
  "p95 ms": ({ p95Ms }) => p95Ms.toFixed(0),
  "server CPU ms a row": ({ cpuMsPerCall }) => (cpuMsPerCall / REQUEST_ROWS).toFixed(3),
};

/** Creates litellm-pgvector's tables in a separate schema, with one store. */
async function createLitellmTables(database: BenchDatabase): Promise<pg.Pool> {
  await execute(database.url, "create schema litellm");
  const pool = database.openPool({ search_path: "litellm,public" });
  await pool.query(TABLES);
  await pool.query("insert into vector_stores (id, name) values ($1, $1)", [STORE]);
  return pool;
}

type Round = Required<Pick<Contender, "prepare" | "verify">>;

/** Empties litellm-pgvector's table before each round, and verifies afterwards that every row was stored. */
function inEmptyTable(pool: pg.Pool): Round {
  return {
    async prepare() {
      await pool.query("truncate embeddings");
    },
    verify: (calls) => checkRows(pool, calls),
  };
}

/** Makes the store of a round through the API, and deletes it after every row was found in it. */
function inNewStore(server: BenchServer, pool: pg.Pool): Round {
  return {
    async prepare() {
      await createStore(server, STORE);
      await pool.query("vacuum embeddings");
    },
    async verify(calls) {
      await checkRows(pool, calls);
      await deleteStore(server, STORE);
    },
  };
}

async function checkRows(pool: pg.Pool, calls: number): Promise<void> {
  const { rows } = await pool.query<{ count: string }>("select count(*) from embeddings");
  if (Number(rows[0]?.count) !== calls * REQUEST_ROWS)
    throw new Error(`There are ${rows[0]?.count} rows after ${calls} requests.`);
}

function makeBatches(): Row[][] {
  const random = createRandom(2);
  const vectors = makeVectors(random, REQUESTS * REQUEST_ROWS, { dimensions: DIMENSIONS, clusters: 50 });
  const texts = makeTexts(random, vectors.length, WORDS);
  const rows = vectors.map((embedding, index) => ({
    content: texts[index] as string,
    embedding,
    topic: `topic ${index % 50}`,
  }));
  return Array.from({ length: REQUESTS }, (_, index) =>
    rows.slice(index * REQUEST_ROWS, (index + 1) * REQUEST_ROWS),
  );
}

function toInput({ content, topic }: Row, embedding: number[] | string): object {
  return { content, embedding, metadata: { topic } };
}

function encodeBatch(grpc: GrpcClient, rows: readonly Row[]): Buffer {
  return grpc.encode("EmbeddingService/BatchCreateEmbeddings", {
    vector_store_id: STORE,
    embeddings: rows.map(({ content, embedding, topic }) => ({
      content,
      embedding,
      metadata: { fields: { topic: { stringValue: topic } } },
    })),
  });
}

function pick(requests: readonly Buffer[], index: number): Buffer {
  return requests[index % requests.length] as Buffer;
}

function toJson(value: object): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function toBase64(vector: readonly number[]): string {
  return Buffer.from(Float32Array.from(vector).buffer).toString("base64");
}

await main();
