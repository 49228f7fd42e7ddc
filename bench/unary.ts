import type pg from "pg";
import { createLexicalEmbedder } from "../src/models/lexical.ts";
import { encodeVector } from "../src/postgres/copy.ts";
import { SEARCH_SETTINGS } from "../src/postgres/search-settings.ts";
import { connectGrpc, connectRest, type GrpcClient, type RestClient } from "./support/clients.ts";
import { createDatabase, execute } from "./support/database.ts";
import { createRandom, makeTexts, makeVectors } from "./support/random.ts";
import { startReport, type Columns } from "./support/report.ts";
import { compare, ownCpuMs, type Contender } from "./support/rounds.ts";
import { startServer } from "./support/server.ts";

const ROWS = 2_000;
const DIMENSIONS = 1536;
const CLUSTERS = 50;
const QUERIES = 200;
const RESULTS = 10;
const ROUNDS = 7;
const CALLS = 300;
const WORDS = { row: 40, query: 6 };

/** A contender that searches; a call resolves to the ids found. */
interface Search extends Contender {
  call(index: number): Promise<string[]>;
}

async function main(): Promise<void> {
  await using database = await createDatabase();
  await using server = await startServer(database.url);
  using rest = connectRest(server);
  using grpc = connectGrpc(server);
  const pool = database.openPool(SEARCH_SETTINGS);
  const report = startReport("unary", database.version);

  const random = createRandom(1);
  const vectors = makeVectors(random, ROWS + QUERIES, { dimensions: DIMENSIONS, clusters: CLUSTERS });
  const texts = makeTexts(random, ROWS, WORDS.row);
  const queries = makeTexts(random, QUERIES, WORDS.query);
  await fill(rest, "vectors", texts, vectors);
  await fill(rest, "texts", texts);
  await execute(database.url, "vacuum (analyze) embeddings");

  const embedder = createLexicalEmbedder(DIMENSIONS);
  const embedded = await embedder.embed(queries, new AbortController().signal);
  const groups = [
    { title: "Search by vector", searches: searchesByVector(pool, rest, grpc, vectors.slice(ROWS)) },
    { title: "Search by text", searches: searchesByText(pool, rest, grpc, queries, embedded.vectors) },
  ];
  for (const { title, searches } of groups) {
    await checkAgreement(searches);
    for (const concurrency of [1, 8]) {
      const results = await compare(searches, {
        rounds: ROUNDS,
        calls: CALLS,
        concurrency,
        cpuMs: server.cpuMs,
      });
      report.add(`${title}, concurrency ${concurrency}`, results, concurrency === 1 ? alone : together);
    }
  }
  report.finish();
}

const together: Columns = {
  "searches/s": ({ callsPerSecond }) => callsPerSecond.toFixed(0),
  "of the floor": ({ ratio }) => ratio.toFixed(2),
  "p50 ms": ({ p50Ms }) => p50Ms.toFixed(2),
  "p95 ms": ({ p95Ms }) => p95Ms.toFixed(2),
  "CPU ms": ({ cpuMsPerCall }) => cpuMsPerCall.toFixed(2),
  "added CPU ms": ({ addedCpuMs }) => addedCpuMs.toFixed(2),
};

const alone: Columns = { ...together, "added p50 ms": ({ addedMs }) => addedMs.toFixed(2) };

/** Creates and fills a store through the service, which embeds the texts when no vectors are given. */
async function fill(rest: RestClient, id: string, texts: string[], vectors?: number[][]): Promise<void> {
  await rest.post("/v1/vector_stores", toJson({ id }));
  const rows = texts.map((content, index) => ({
    content,
    metadata: { topic: `topic ${index % CLUSTERS}`, position: index },
    ...(vectors !== undefined && { embedding: toBase64(vectors[index] as number[]) }),
  }));
  for (let start = 0; start < rows.length; start += 500) {
    const embeddings = rows.slice(start, start + 500);
    await rest.post(`/v1/vector_stores/${id}/embeddings/batch`, toJson({ embeddings }));
  }
}

function searchesByVector(
  pool: pg.Pool,
  rest: RestClient,
  grpc: GrpcClient,
  queries: readonly number[][],
): Search[] {
  const query = (index: number) => queries[index % queries.length] as number[];
  return [
    {
      name: "SQL by node-postgres (floor)",
      cpuMs: ownCpuMs,
      call: (index) => searchBySql(pool, "vectors", Float32Array.from(query(index))),
    },
    {
      name: "REST, vector in base64",
      call: (index) => searchByRest(rest, "vectors", { embedding: toBase64(query(index)) }),
    },
    {
      name: "REST, vector as numbers",
      call: (index) => searchByRest(rest, "vectors", { embedding: query(index) }),
    },
    { name: "gRPC", call: (index) => searchByGrpc(grpc, "vectors", { embedding: query(index) }) },
  ];
}

function searchesByText(
  pool: pg.Pool,
  rest: RestClient,
  grpc: GrpcClient,
  queries: readonly string[],
  vectors: readonly Float32Array[],
): Search[] {
  const query = (index: number) => queries[index % queries.length] as string;
  return [
    {
      name: "SQL by node-postgres, text already embedded (floor)",
      cpuMs: ownCpuMs,
      call: (index) => searchBySql(pool, "texts", vectors[index % vectors.length] as Float32Array),
    },
    { name: "REST", call: (index) => searchByRest(rest, "texts", { query: query(index) }) },
    { name: "gRPC", call: (index) => searchByGrpc(grpc, "texts", { query: [query(index)] }) },
  ];
}

/**
 * The statement of src/search for a store in the shared table, without its check that the cached store row is
 * current.
 */
async function searchBySql(pool: pg.Pool, store: string, vector: Float32Array): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>({
    name: "search",
    text: `select id, content, metadata, embedding <=> $2::vector as distance
      from only embeddings where vector_store_id = $1 order by distance, id limit $3`,
    values: [store, encodeVector(vector), RESULTS],
  });
  return rows.map(({ id }) => id);
}

async function searchByRest(rest: RestClient, store: string, body: object): Promise<string[]> {
  const reply = await rest.post(
    `/v1/vector_stores/${store}/search`,
    toJson({ ...body, max_num_results: RESULTS }),
  );
  return idsOf(JSON.parse(reply.toString()));
}

async function searchByGrpc(grpc: GrpcClient, store: string, query: object): Promise<string[]> {
  const rpc = "SearchService/Search";
  const request = grpc.encode(rpc, { ...query, vector_store_id: store, max_num_results: RESULTS });
  return idsOf(grpc.decode(rpc, await grpc.send(rpc, request)));
}

function idsOf(reply: unknown): string[] {
  return (reply as { data: { id: string }[] }).data.map(({ id }) => id);
}

/** Throws unless all contenders find the same rows: otherwise their times are not comparable. */
async function checkAgreement(searches: readonly Search[]): Promise<void> {
  for (let index = 0; index < QUERIES; index++) {
    const [expected, ...others] = await Promise.all(searches.map(async (search) => search.call(index)));
    if (expected?.length !== RESULTS || others.some((ids) => ids.join() !== expected.join()))
      throw new Error(`Query ${index} finds different rows.`);
  }
}

function toJson(value: object): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function toBase64(vector: readonly number[]): string {
  return Buffer.from(Float32Array.from(vector).buffer).toString("base64");
}

await main();
