import { connectGrpc, connectRest } from "./support/clients.ts";
import { createDatabase, execute } from "./support/database.ts";
import { selectParts } from "./support/parts.ts";
import { createPoints, type Points } from "./support/points.ts";
import { writePlot, type Plot } from "./support/plot.ts";
import { startReport, type Columns } from "./support/report.ts";
import { compare, type Result } from "./support/rounds.ts";
import {
  RESULTS,
  searchByGrpc,
  searchByRest,
  searchBySql,
  searchByStatement,
  toBase64,
  type Bench,
  type Search,
} from "./support/searches.ts";
import { startServer } from "./support/server.ts";
import { buildIndex, makeStore } from "./support/store.ts";

const DIMENSIONS = 1536;
const CLUSTERS = 100;
const QUERIES = 200;
/** Number of the first query point, beyond the numbers of all rows: no query is itself a row. */
const FIRST_QUERY = 10_000_000;
const ROUNDS = 5;
const CALLS = 300;

/** The parts of the benchmark, selected on the command line; default: all. */
const PARTS = { promoted, precision, growth, size, peers };

async function main(): Promise<void> {
  for (const name of selectParts(PARTS)) {
    await using database = await createDatabase();
    // No automatic indexes: the benchmark decides when an index is built.
    await using server = await startServer(database.url, { INDEX_THRESHOLD_BYTES: "0" });
    using rest = connectRest(server);
    using grpc = connectGrpc(server);
    const report = startReport(`search ${name}`, database.version);
    await PARTS[name]({ database, pool: database.openPool(), server, rest, grpc, report });
    report.finish();
  }
}

/**
 * 100,000 rows with an index: recall at the defaults, and the overhead of the service over its SQL statement.
 */
async function promoted(bench: Bench): Promise<void> {
  const points = createPoints({ dimensions: DIMENSIONS, clusters: CLUSTERS, seed: 1 });
  const built = await makeStore(bench.server, { id: "large", points, rows: 100_000, precision: "float16" });
  print(
    `index: ${built.seconds.toFixed(0)} s, ${toMegabytes(built.indexBytes)} MB; table ${toMegabytes(built.tableBytes)} MB`,
  );
  const query = toQuery(points);
  const truth = await findTruth(bench, "large", query);
  const sql = await searchBySql(bench, "large", query);
  const searches = [
    sql,
    searchByRest(bench, "REST, vector in base64", "large", (index) => ({
      embedding: toBase64(query(index)),
    })),
    searchByRest(bench, "REST, vector as numbers", "large", (index) => ({ embedding: [...query(index)] })),
    searchByGrpc(bench, "large", query),
  ];
  for (const search of searches)
    print(`recall@${RESULTS}, ${search.name}: ${(await measureRecall(search, truth)).toFixed(4)}`);
  for (const concurrency of [1, 8]) {
    const plan = { rounds: ROUNDS, calls: CALLS, concurrency, cpuMs: bench.server.cpuMs };
    const results = await compare(searches, plan);
    bench.report.add(
      `100,000 rows of ${DIMENSIONS} dimensions, concurrency ${concurrency}`,
      results,
      columns(concurrency),
    );
  }
}

/** Recall against speed for each precision and ef_search. */
async function precision(bench: Bench): Promise<void> {
  const points = createPoints({ dimensions: DIMENSIONS, clusters: 20, seed: 1 });
  const query = toQuery(points);
  await makeStore(bench.server, { id: "middle", points, rows: 20_000, precision: "none" });
  const truth = await findTruth(bench, "middle", query);
  const lines: Plot["lines"] = [];
  for (const kept of ["float32", "float16", "binary"] as const) {
    const built = await buildIndex(bench.server, "middle", kept);
    print(`${kept}: built in ${built.seconds.toFixed(0)} s, ${toMegabytes(built.indexBytes)} MB`);
    const searches = [20, 40, 80, 100, 200, 400].map((ef) =>
      searchByRest(bench, `${kept}, ef_search ${ef}`, "middle", (index) => ({
        embedding: toBase64(query(index)),
        ef_search: ef,
      })),
    );
    const recalls: number[] = [];
    for (const search of searches) recalls.push(await measureRecall(search, truth));
    const results = await compare(searches, {
      rounds: 3,
      calls: 200,
      concurrency: 8,
      cpuMs: bench.server.cpuMs,
    });
    const withRecall: Columns = {
      [`recall@${RESULTS}`]: (result) => (recalls[results.indexOf(result)] as number).toFixed(4),
      "searches/s": ({ callsPerSecond }) => callsPerSecond.toFixed(0),
      "p50 ms": ({ p50Ms }) => p50Ms.toFixed(2),
    };
    bench.report.add(
      `20,000 rows of ${DIMENSIONS} dimensions, index of ${kept}, concurrency 8`,
      results,
      withRecall,
    );
    lines.push({
      name: kept,
      points: results.map(({ name, callsPerSecond }, at) => ({
        x: recalls[at] as number,
        y: callsPerSecond,
        label: name,
      })),
    });
  }
  await writePlot("recall", {
    title: "Recall against searches per second, ef_search 20 to 400",
    x: { title: `recall@${RESULTS}`, scale: "linear" },
    y: { title: "searches/s, concurrency 8", scale: "linear" },
    lines,
  });
}

/**
 * Latency of a store of 2,000 rows in the shared table, while the table grows to a million rows of other
 * stores.
 */
async function growth(bench: Bench): Promise<void> {
  const points = createPoints({ dimensions: 384, clusters: CLUSTERS, seed: 2 });
  const query = toQuery(points);
  await makeStore(bench.server, { id: "small", points, rows: 2_000, precision: "none" });
  const search = searchByRest(bench, "REST", "small", (index) => ({ embedding: toBase64(query(index)) }));
  const results: Result[] = [];
  let rows = 2_000;
  for (const total of [10_000, 100_000, 1_000_000]) {
    await addOthers(bench, rows, total);
    rows = total;
    const [result] = await compare([search], {
      rounds: 7,
      calls: CALLS,
      concurrency: 1,
      cpuMs: bench.server.cpuMs,
    });
    results.push({ ...(result as Result), name: `${total.toLocaleString("en")} rows in the table` });
  }
  const first = (results[0] as Result).p50Ms;
  bench.report.add("A store of 2,000 rows of 384 dimensions, REST, concurrency 1", results, {
    "p50 ms": ({ p50Ms }) => p50Ms.toFixed(2),
    "p95 ms": ({ p95Ms }) => p95Ms.toFixed(2),
    "of the first": ({ p50Ms }) => (p50Ms / first).toFixed(2),
  });
}

/**
 * Inserts rows of other stores, 2,000 per store, directly into the shared table; their content does not
 * matter.
 */
async function addOthers({ database }: Bench, from: number, to: number): Promise<void> {
  await execute(
    database.url,
    `insert into embeddings (vector_store_id, id, content, embedding, metadata)
     select 'other_' || number / 2000, number::text, content, embedding, metadata
     from generate_series(${from}, ${to - 1}) as number join embeddings on vector_store_id = 'small' and id = (number % 2000)::text`,
  );
  await execute(database.url, "vacuum (analyze) embeddings");
}

/** Latency against the size of a store: exact search and index search. */
async function size(bench: Bench): Promise<void> {
  const points = createPoints({ dimensions: DIMENSIONS, clusters: CLUSTERS, seed: 1 });
  const query = toQuery(points);
  const exact: Result[] = [];
  const indexed: Result[] = [];
  for (const rows of [1_000, 2_000, 5_000, 10_000, 20_000, 50_000]) {
    const id = `rows_${rows}`;
    await makeStore(bench.server, { id, points, rows, precision: "none" });
    await execute(bench.database.url, "vacuum (analyze) embeddings");
    const search = searchByRest(bench, rows.toLocaleString("en"), id, (index) => ({
      embedding: toBase64(query(index)),
    }));
    const plan = { rounds: 3, calls: 100, concurrency: 1, cpuMs: bench.server.cpuMs };
    exact.push(...(await compare([search], plan)));
    await buildIndex(bench.server, id, "float16");
    indexed.push(...(await compare([search], plan)));
  }
  const latency: Columns = {
    "p50 ms": ({ p50Ms }) => p50Ms.toFixed(2),
    "p95 ms": ({ p95Ms }) => p95Ms.toFixed(2),
  };
  bench.report.add("Rows in the store, searched exactly in the shared table", exact, latency);
  bench.report.add("The same by index", indexed, latency);
  const toLine = (name: string, results: Result[]) => ({
    name,
    points: results.map((result) => ({ x: Number(result.name.replaceAll(",", "")), y: result.p50Ms })),
  });
  await writePlot("size", {
    title: `Latency of a search over the size of its store, ${DIMENSIONS} dimensions`,
    x: { title: "rows in the store", scale: "log" },
    y: { title: "p50 ms", scale: "log" },
    lines: [toLine("exact", exact), toLine("index", indexed)],
  });
}

/**
 * Ten stores of 2,000 rows, searched by the service, by litellm-pgvector's statement, and by one index over
 * all stores.
 */
async function peers(bench: Bench): Promise<void> {
  const points = createPoints({ dimensions: DIMENSIONS, clusters: CLUSTERS, seed: 1 });
  const stores = Array.from({ length: 10 }, (_, store) => `store_${store}`);
  for (const [store, id] of stores.entries()) {
    const own: Points = { at: (index) => points.at(index + store * 2_000) };
    await makeStore(bench.server, { id, points: own, rows: 2_000, precision: "none" });
  }
  await execute(bench.database.url, "vacuum (analyze) embeddings");
  const query = toQuery(points);
  const truth = await findTruth(bench, "store_3", query);
  await execute(
    bench.database.url,
    `create schema peer; create table peer.embeddings as select * from public.embeddings;
     alter table peer.embeddings alter column embedding type vector(${DIMENSIONS}), add primary key (id, vector_store_id);
     analyze peer.embeddings`,
  );
  const litellm = searchByStatement(
    bench,
    "litellm-pgvector's SQL",
    "store_3",
    query,
    `
      SELECT id, content, metadata, (embedding <=> $1::vector) as distance FROM peer.embeddings
      WHERE vector_store_id = $2 ORDER BY distance LIMIT ${RESULTS}`,
  );
  const ours = searchByStatement(
    bench,
    "pgquiver's SQL",
    "store_3",
    query,
    `
      select id, content, metadata, embedding <=> $1::vector as distance from only public.embeddings
      where vector_store_id = $2 order by distance, id limit ${RESULTS}`,
  );
  const service = searchByRest(bench, "pgquiver, REST", "store_3", (index) => ({
    embedding: toBase64(query(index)),
  }));
  const before = await measureAll(bench, [litellm, ours, service], truth);
  await execute(
    bench.database.url,
    "set maintenance_work_mem = '1GB'; create index on peer.embeddings using hnsw (embedding vector_cosine_ops)",
  );
  const global = { ...litellm, name: "one HNSW over all stores" };
  const after = await measureAll(bench, [global], truth);
  const recalls = new Map([...before, ...after].map(({ result, recall }) => [result, recall]));
  bench.report.add(`One of ten stores of 2,000 rows, concurrency 1`, [...recalls.keys()], {
    [`recall@${RESULTS}`]: (result) => (recalls.get(result) as number).toFixed(4),
    "p50 ms": ({ p50Ms }) => p50Ms.toFixed(2),
    "searches/s": ({ callsPerSecond }) => callsPerSecond.toFixed(0),
  });
}

async function measureAll({ server }: Bench, searches: Search[], truth: string[][]) {
  const results = await compare(searches, { rounds: 3, calls: 100, concurrency: 1, cpuMs: server.cpuMs });
  const recalls: number[] = [];
  for (const search of searches) recalls.push(await measureRecall(search, truth));
  return results.map((result, index) => ({ result, recall: recalls[index] as number }));
}

/** The true nearest neighbours of every query, found by the service's exact search. */
async function findTruth(
  bench: Bench,
  store: string,
  query: (index: number) => Float32Array,
): Promise<string[][]> {
  const exact = searchByRest(bench, "exact", store, (index) => ({
    embedding: toBase64(query(index)),
    exact: true,
  }));
  const truth: string[][] = [];
  for (let index = 0; index < QUERIES; index++) truth.push(await exact.call(index));
  return truth;
}

/** Recall: the share of the true nearest neighbours that a search finds, over all queries. */
async function measureRecall(search: Search, truth: readonly string[][]): Promise<number> {
  let found = 0;
  for (const [index, expected] of truth.entries()) {
    const ids = new Set(await search.call(index));
    found += expected.filter((id) => ids.has(id)).length;
  }
  return found / truth.flat().length;
}

/** Query n, generated in advance, so that generating it is not measured. */
function toQuery(points: Points): (index: number) => Float32Array {
  const queries = Array.from({ length: QUERIES }, (_, index) => points.at(FIRST_QUERY + index));
  return (index) => queries[index % QUERIES] as Float32Array;
}

function columns(concurrency: number): Columns {
  return {
    "searches/s": ({ callsPerSecond }) => callsPerSecond.toFixed(0),
    "of the floor": ({ ratio }) => ratio.toFixed(2),
    "p50 ms": ({ p50Ms }) => p50Ms.toFixed(2),
    "p95 ms": ({ p95Ms }) => p95Ms.toFixed(2),
    "server CPU ms": ({ cpuMsPerCall }) => cpuMsPerCall.toFixed(2),
    ...(concurrency === 1 && { "added p50 ms": ({ addedMs }: Result) => addedMs.toFixed(2) }),
  };
}

function toMegabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}

function print(line: string): void {
  process.stderr.write(`${line}\n`);
}

await main();
