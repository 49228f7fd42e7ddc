import { encodeVector } from "../src/postgres/copy.ts";
import { SEARCH_SETTINGS } from "../src/postgres/search-settings.ts";
import { quoteTables } from "../src/postgres/tables.ts";
import type { Filter } from "../src/filters/sql.ts";
import { MetadataSamples } from "../src/search/metadata-samples.ts";
import { searchStore, type Searching } from "../src/search/run.ts";
import type { SearchQuery } from "../src/search/query.ts";
import { findStore } from "../src/storage/stores.ts";
import { connectGrpc } from "./support/clients.ts";
import { createDatabase } from "./support/database.ts";
import { selectParts } from "./support/parts.ts";
import { createPoints, type Points } from "./support/points.ts";
import { writePlot, type Plot } from "./support/plot.ts";
import { startReport, type Columns, type Report } from "./support/report.ts";
import { compare, type Contender, type Result } from "./support/rounds.ts";
import { RESULTS } from "./support/searches.ts";
import { startServer, type BenchServer } from "./support/server.ts";
import { declareAttribute, makeStore } from "./support/store.ts";
import type { BenchDatabase } from "./support/database.ts";

const DIMENSIONS = 384;
const CLUSTERS = 100;
const QUERIES = 100;
/** Number of the first query point, beyond the numbers of all rows: no query is itself a row. */
const FIRST_QUERY = 10_000_000;
/** Shares of the rows that filters leave. */
const SHARES = [1, 0.5, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0001, 0.00001];

interface Bench {
  database: BenchDatabase;
  server: BenchServer;
  report: Report;
}

/** The parts of the benchmark, selected on the command line; default: all. */
const PARTS = { paths, service };

async function main(): Promise<void> {
  for (const name of selectParts(PARTS)) {
    await using database = await createDatabase();
    await using server = await startServer(database.url, { INDEX_THRESHOLD_BYTES: "0" });
    const report = startReport(`filters ${name}`, database.version);
    await PARTS[name]({ database, server, report });
    report.finish();
  }
}

/**
 * The way that a search chooses against each way it could have gone, over the share of rows that match and the
 * size of the store, before and after the attribute is declared.
 */
async function paths(bench: Bench): Promise<void> {
  const lines: Plot["lines"] = [];
  let worst = { ratio: 0, name: "" };
  for (const rows of [1_000, 10_000, 100_000]) {
    const points = createPoints({ dimensions: DIMENSIONS, clusters: CLUSTERS, seed: 1 });
    const id = `rows_${rows}`;
    await makeStore(bench.server, { id, points, rows, precision: "float16" });
    for (const isDeclared of [false, true]) {
      if (isDeclared) await declareAttribute(bench.server, id, { key: "position", type: "number" });
      const name = `${rows.toLocaleString("en")} rows${isDeclared ? ", attribute" : ""}`;
      const results = await comparePaths(bench, { id, rows, points, isDeclared });
      bench.report.add(`${name} of ${DIMENSIONS} dimensions, p50 ms by the share that matches`, results, {
        chosen: ({ chosen }) => chosen.toFixed(2),
        ...Object.fromEntries(
          Object.keys(results[0]?.forced ?? {}).map((way) => [
            way,
            ({ forced }: Cell) => (forced[way] ?? 0).toFixed(2),
          ]),
        ),
        "of the best": ({ ratio }) => ratio.toFixed(2),
      });
      for (const { ratio, name: share } of results)
        if (ratio > worst.ratio) worst = { ratio, name: `${share} of ${name}` };
      lines.push({ name, points: results.map(({ share, ratio }) => ({ x: 100 * share, y: ratio })) });
    }
  }
  print(`\nworst: ${worst.ratio.toFixed(2)} times the best way, at ${worst.name}`);
  await writePlot("filters", {
    title: "Filtered search: time of the chosen way over the best way",
    x: { title: "rows that match, %", scale: "log" },
    y: { title: "times the best", scale: "linear" },
    lines,
  });
}

/** The ways of a search under a filter that leaves one share of the rows. */
interface Cell {
  name: string;
  share: number;
  chosen: number;
  forced: Record<string, number>;
  /** The chosen way's time over that of the fastest way. */
  ratio: number;
}

async function comparePaths(
  { database, server }: Bench,
  { id, rows, points, isDeclared }: { id: string; rows: number; points: Points; isDeclared: boolean },
): Promise<Cell[]> {
  const tables = quoteTables({});
  const pool = database.openPool(SEARCH_SETTINGS);
  const reading = database.openPool({
    ...SEARCH_SETTINGS,
    enable_indexscan: "off",
    enable_bitmapscan: "off",
  });
  const store = await findStore(pool, tables, id);
  if (store === undefined) throw new Error(`There is no store ${id}.`);
  const query = toQuery(points);
  const search =
    (filter: Filter, searching: Partial<Searching>, asked: Partial<SearchQuery> = {}) =>
    async (index: number) => {
      const outcome = await searchStore(
        { pool, settings: {}, exactTimeoutMs: 60_000, ...searching },
        tables,
        store,
        { ...PLAIN, vector: encodeVector(query(index)), filter, ...asked },
        new AbortController().signal,
      );
      if (typeof outcome === "string") throw new Error(outcome);
    };
  const samples = new MetadataSamples();
  const cells: Cell[] = [];
  for (const share of SHARES) {
    if (share * rows < 1) continue;
    const filter: Filter = { type: "lt", key: "position", value: Math.round(share * rows) };
    const ways: Contender[] = [
      { name: "chosen", call: search(filter, { samples }) },
      { name: "vector index first", call: search(filter, {}) },
      { name: "read all", call: search(filter, { pool: reading }, { isExact: true }) },
      ...(isDeclared ? [{ name: "attribute index", call: search(filter, {}, { isExact: true }) }] : []),
    ];
    const calls = rows > 20_000 ? 6 : 30;
    const results = await compare(ways, { rounds: 5, calls, concurrency: 1, cpuMs: server.cpuMs });
    const [chosen, ...forced] = results as [Result, ...Result[]];
    const best = Math.min(...forced.map(({ p50Ms }) => p50Ms));
    cells.push({
      name: `${Number((100 * share).toPrecision(3))} %`,
      share,
      chosen: chosen.p50Ms,
      forced: Object.fromEntries(forced.map(({ name, p50Ms }) => [name, p50Ms])),
      ratio: chosen.p50Ms / best,
    });
  }
  return cells;
}

const PLAIN = { fusion: undefined, isExact: false, efSearch: undefined, resultsMax: RESULTS };

/** 20,000 rows of 384 dimensions over gRPC, eight searches at a time, before and after the attribute is declared. */
async function service(bench: Bench): Promise<void> {
  using grpc = connectGrpc(bench.server);
  const rows = 20_000;
  const points = createPoints({ dimensions: DIMENSIONS, clusters: CLUSTERS, seed: 1 });
  await makeStore(bench.server, { id: "filtered", points, rows, precision: "float16" });
  const query = toQuery(points);
  const rpc = "SearchService/Search";
  const search = async (index: number, filters: object | undefined) => {
    const embedding = [...query(index)];
    const request = { vector_store_id: "filtered", embedding, max_num_results: RESULTS, filters };
    const reply = grpc.decode(rpc, await grpc.send(rpc, grpc.encode(rpc, request))) as { data: unknown[] };
    if (reply.data.length !== RESULTS) throw new Error(`Found ${reply.data.length} rows.`);
  };
  const lt = (key: string, value: number) => ({ type: "FILTER_TYPE_LT", key, value: { numberValue: value } });
  const searches = [undefined, 0.5, 0.01, 0.001].map((share) => ({
    name: share === undefined ? "no filter" : `lt, ${100 * share} % match`,
    call: (index: number) => search(index, share === undefined ? undefined : lt("position", share * rows)),
  }));
  const columns: Columns = {
    "searches/s": ({ callsPerSecond }) => callsPerSecond.toFixed(0),
    "p50 ms": ({ p50Ms }) => p50Ms.toFixed(2),
    "p95 ms": ({ p95Ms }) => p95Ms.toFixed(2),
    "server CPU ms": ({ cpuMsPerCall }) => cpuMsPerCall.toFixed(2),
  };
  const plan = { rounds: 5, calls: 400, concurrency: 8, cpuMs: bench.server.cpuMs };
  bench.report.add(
    "20,000 rows of 384 dimensions, gRPC, concurrency 8",
    await compare(searches, plan),
    columns,
  );
  await declareAttribute(bench.server, "filtered", { key: "position", type: "number" });
  // The service learns of the index with its next sample, which a filter by a further key makes it draw.
  await search(0, lt("tenth", 5));
  bench.report.add("The same with the attribute declared", await compare(searches, plan), columns);
}

/** Query n, generated in advance, so that generating it is not measured. */
function toQuery(points: Points): (index: number) => Float32Array {
  const queries = Array.from({ length: QUERIES }, (_, index) => points.at(FIRST_QUERY + index));
  return (index) => queries[index % QUERIES] as Float32Array;
}

function print(line: string): void {
  process.stderr.write(`${line}\n`);
}

await main();
