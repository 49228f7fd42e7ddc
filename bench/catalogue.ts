import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Buckets } from "../src/files/buckets.ts";
import type { Step } from "../src/indexes/step.ts";
import { promoteStore, type IndexOptions } from "../src/indexes/worker.ts";
import { prepareCitus } from "../src/postgres/citus/cluster.ts";
import { openDatabase } from "../src/postgres/connection/pool.ts";
import type { Database } from "../src/postgres/database.ts";
import { quoteTables } from "../src/postgres/tables.ts";
import { sweepExpired } from "../src/vector-stores/expiry-sweeper.ts";
import { backendCpuMs, cpuBetween, largestBackend, nodeUrls } from "./support/backends.ts";
import { connectRest, type RestClient } from "./support/clients.ts";
import { citusUrls, createDatabase, type BenchDatabase } from "./support/database.ts";
import { startReport, type Columns } from "./support/report.ts";
import { startServer } from "./support/server.ts";

/** What a catalogue of many stores and own tables costs that few do not, on one plain Postgres or a Citus cluster. */

const IS_CLUSTER = citusUrls().length > 0;
/** Stores in all, of which the first so many have an own table with an index. */
const SIZES = IS_CLUSTER
  ? // The stores beside those with own tables are on the coordinator, as on one Postgres: only the tables count.
    [10, 100, 500, 1_000].map((tables) => ({ stores: 10_000, tables }))
  : [
      { stores: 1_000, tables: 10 },
      { stores: 100_000, tables: 1_000 },
    ];
const CITUS = IS_CLUSTER ? { CITUS: "auto" } : {};
const ROWS = 20;
const DIMENSIONS = 8;
const CALLS = 100;
const STARTS = 3;
const EXPIRED = 100;
/** Of the tables that were made last, the median of so many is told. */
const LAST = 10;

const INDEXES: IndexOptions = {
  thresholdBytes: 0,
  shardBytes: 0,
  quietMs: 0,
  patienceMs: 0,
  pollMs: 1_000,
  memoryBytes: 8 * 1024 * 1024,
  workers: 0,
  language: "english",
};

/** A measured value, by the size of the catalogue. */
interface Measured {
  name: string;
  values: string[];
}

async function main(): Promise<void> {
  await using created = await createDatabase();
  // Makes the tables.
  await (await startServer(created.url, { INDEX_WORKER: "off", ...CITUS }))[Symbol.asyncDispose]();
  const report = startReport("catalogue", created.version);
  const database = await openDatabase({
    url: created.url,
    tables: quoteTables({}),
    poolMax: 4,
    connectTimeoutMs: 10_000,
    statementTimeoutMs: 600_000,
  });
  database.citus = await prepareCitus(database, "auto", INDEXES);
  const results = new Map<string, Measured>();
  const note = (name: string, value: string) => {
    const found = results.get(name) ?? { name, values: [] };
    found.values.push(value);
    results.set(name, found);
  };
  let size = { stores: 0, tables: 0 };
  try {
    for (const next of SIZES) {
      await grow(database, size, next, note);
      size = next;
      await measure(created, database, size, note);
    }
  } finally {
    await database.close();
  }
  const columns: Columns<Measured> = {};
  for (const [index, { stores, tables }] of SIZES.entries())
    columns[`${stores.toLocaleString("en")} stores, ${tables.toLocaleString("en")} own tables`] = ({
      values,
    }) => values[index] ?? "";
  report.add(`${ROWS} rows of ${DIMENSIONS} dimensions in each store`, [...results.values()], columns);
  report.finish();
}

type Note = (name: string, value: string) => void;

/** Adds stores, and gives the first ones that have none own tables. */
async function grow(
  database: Database,
  from: { stores: number; tables: number },
  to: { stores: number; tables: number },
  note: Note,
): Promise<void> {
  const { pool } = database;
  await addStores(pool, from.stores + 1, to.stores, "1 year");
  await pool.query("vacuum (analyze) vector_stores");
  const times: number[] = [];
  const steps = new Map<Step, number[]>();
  const onStep = (step: Step, _store: string | undefined, ms?: number) => {
    if (ms !== undefined) steps.set(step, [...(steps.get(step) ?? []), ms]);
  };
  for (let number = from.tables + 1; number <= to.tables; number++)
    times.push(await time(() => promoteStore(database, `vs_${number}`, { ...INDEXES, onStep })));
  const typical = (all: readonly number[]) => median(all.slice(-LAST)).toFixed(0);
  note(`own table and index of a store, ms (the last ${LAST})`, typical(times));
  for (const [step, all] of steps) note(`of these the step "${step}", ms`, typical(all));
}

/** Adds stores with rows in the shared table, which expire then. */
async function addStores(
  pool: Database["pool"],
  first: number,
  last: number,
  expiresIn: string,
): Promise<void> {
  const range = [first, last];
  await pool.query(
    `insert into vector_stores (id, name, dimensions, embedding_count, file_counts, expires_at)
     select 'vs_' || n, 'Store ' || n, $3::int, $4::int,
       jsonb_build_object('in_progress', 0, 'failed', 0, 'cancelled', 0, 'completed', $4::int, 'total', $4::int),
       now() + $5::interval
     from generate_series($1::int, $2::int) as n`,
    [...range, DIMENSIONS, ROWS, expiresIn],
  );
  await pool.query(
    `insert into embeddings (vector_store_id, id, content, embedding, metadata)
     select 'vs_' || n, 'e' || row, 'text ' || row, (select array_agg(random()) from generate_series(1, $3) where n + row > 0)::vector,
       jsonb_build_object('n', row)
     from generate_series($1::int, $2::int) as n, generate_series(1, $4) as row`,
    [...range, DIMENSIONS, ROWS],
  );
}

async function measure(
  created: BenchDatabase,
  database: Database,
  { stores, tables }: { stores: number; tables: number },
  note: Note,
): Promise<void> {
  const settings = { INDEX_WORKER: "off", EXPIRY_SWEEP_SECONDS: "0", ...CITUS };
  const starts: number[] = [];
  for (let count = 0; count < STARTS; count++)
    starts.push(await time(async () => (await startServer(created.url, settings))[Symbol.asyncDispose]()));
  note("start and stop of the service, ms", median(starts).toFixed(0));
  await using server = await startServer(created.url, settings);
  using client = connectRest(server);
  await measureCalls(client, { stores, tables }, note);
  await measureSearches(created, { stores, tables }, note);
  await measurePlans(database, note);
  await measureRowsOf(database, stores, note);
  const doctor = await time(() => client.send("GET", "/v1/diagnostics"));
  note("diagnosis (GET /v1/diagnostics), ms", doctor.toFixed(0));
  note("GET /metrics, ms", (await time(() => client.send("GET", "/metrics"))).toFixed(0));
  await measureSweep(database, tables, note);
  if (IS_CLUSTER) await measureUnitedView(database, note);
  note(
    "analyze embeddings, with its children, ms",
    (await time(() => database.pool.query("analyze embeddings"))).toFixed(0),
  );
  note(
    "analyze vector_stores, ms",
    (await time(() => database.pool.query("analyze vector_stores"))).toFixed(0),
  );
  const [first = 0, ...others] = await Promise.all(nodeUrls(created.url).map(largestBackend));
  note("largest backend, MiB", first.toFixed(0));
  if (IS_CLUSTER) note("largest backend of a worker, MiB", Math.max(...others).toFixed(0));
}

async function measureCalls(
  client: RestClient,
  { stores, tables }: { stores: number; tables: number },
  note: Note,
): Promise<void> {
  const own = (index: number) => `vs_${tables - (index % tables)}`;
  const calls: Record<string, (index: number) => Promise<unknown>> = {
    "first page of 100 stores": () => client.send("GET", "/v1/vector_stores?limit=100"),
    "page of 100 stores in the middle": () =>
      client.send("GET", `/v1/vector_stores?limit=100&after=vs_${Math.floor(stores / 2)}`),
    "one store": (index) => client.send("GET", `/v1/vector_stores/vs_${stores - index}`),
    "state of an index": (index) => client.send("GET", `/v1/vector_stores/${own(index)}/index`),
  };
  for (const [name, call] of Object.entries(calls)) {
    await call(0);
    note(`${name}, p50 ms`, await typicalTime(call));
  }
}

/** Searches by services of their own, whose sessions have seen no table yet. */
async function measureSearches(
  { url }: BenchDatabase,
  { stores, tables }: { stores: number; tables: number },
  note: Note,
): Promise<void> {
  const own = (index: number) => `vs_${tables - (index % tables)}`;
  for (const way of IS_CLUSTER ? ["directly", "through the coordinator"] : [""]) {
    const settings = {
      INDEX_WORKER: "off",
      EXPIRY_SWEEP_SECONDS: "0",
      CITUS_DIRECT: way === "directly" ? "auto" : "off",
      // Few sessions, so that one meets a table again.
      DATABASE_POOL_MAX: "2",
      ...CITUS,
    };
    await using server = await startServer(url, settings);
    using client = connectRest(server);
    const search = (id: string) => {
      const embedding = Array.from({ length: DIMENSIONS }, () => Math.random());
      return client.post(`/v1/vector_stores/${id}/search`, Buffer.from(JSON.stringify({ embedding })));
    };
    const cpu = () => Promise.all(nodeUrls(url).map(backendCpuMs));
    const measureOne = async (name: string, call: (index: number) => Promise<unknown>) => {
      const before = await cpu();
      const ms = await typicalTime(call);
      const used = (await cpu()).map((now, node) => cpuBetween(before[node] ?? new Map(), now) / CALLS);
      const [first = 0, ...others] = used;
      const workers = others.reduce((sum, one) => sum + one, 0);
      const shown = IS_CLUSTER ? `${first.toFixed(2)} + ${workers.toFixed(2)}` : first.toFixed(2);
      note(`search ${name}: p50 ms; CPU ms of the backends`, `${ms}; ${shown}`);
    };
    // A process tries a worker in the background before its searches go there, and then once a second.
    const isReached = async () =>
      /way="direct"\} [1-9]/.test((await client.send("GET", "/metrics")).toString());
    for (let index = 0; index < 4; index++) await search(`vs_${index + 1}`);
    while (way === "directly" && !(await isReached())) {
      await delay(200);
      for (let index = 0; index < 4; index++) await search(`vs_${index + 1}`);
    }
    const kind = `of an own table ${way}`.trim();
    for (const pass of ["first", "second", "third"])
      await measureOne(`${kind}, another each time, ${pass} pass`, (index) => search(own(index)));
    await measureOne(`${kind}, the same`, () => search(own(0)));
    if (way !== "through the coordinator")
      await measureOne("of the shared table, another each time", (index) => search(`vs_${stores - index}`));
  }
}

/** The median time of `CALLS` calls, one after another, in milliseconds. */
async function typicalTime(call: (index: number) => Promise<unknown>): Promise<string> {
  const times: number[] = [];
  for (let index = 0; index < CALLS; index++) times.push(await time(() => call(index)));
  return median(times).toFixed(2);
}

/** Planning times, each on a new connection, whose caches are empty, and then again. */
async function measurePlans({ pool }: Database, note: Note): Promise<void> {
  const { rows } = await pool.query<{ own_table: string }>(
    "select own_table from vector_stores where own_table is not null order by id limit 1",
  );
  const vector = `'[${Array.from({ length: DIMENSIONS }, () => 1).join(",")}]'`;
  const nearest = (table: string) => `select id from ${table} order by embedding <=> ${vector} limit 10`;
  const statements = {
    "an own table": nearest(`only ${rows[0]?.own_table}`),
    "the shared table": nearest("only embeddings where vector_store_id = 'vs_500'"),
    // Constraint exclusion leaves no child in the plan, but opens each to read its check constraint.
    "SQL over embeddings of one store": nearest("embeddings where vector_store_id = 'vs_500'"),
    "SQL over all stores (embeddings)": nearest("embeddings"),
  };
  for (const [name, statement] of Object.entries(statements)) {
    const client = await pool.connect();
    try {
      const plan = async () => {
        const explained = await client.query<Record<"QUERY PLAN", { "Planning Time": number }[]>>(
          `explain (summary, format json) ${statement}`,
        );
        return explained.rows[0]?.["QUERY PLAN"][0]?.["Planning Time"] ?? Number.NaN;
      };
      const times = [await plan(), await plan(), await plan()];
      note(`planning ${name}, ms, first and then`, `${times[0]?.toFixed(2)}, ${times[2]?.toFixed(2)}`);
    } finally {
      client.release(true);
    }
  }
}

/** A search of one store by SQL, by the function of docs/indexes.md: on a new connection, and then again. */
async function measureRowsOf({ pool }: Database, stores: number, note: Note): Promise<void> {
  const docs = readFileSync(new URL("../docs/indexes.md", import.meta.url), "utf8");
  const definition = /create or replace function rows_of[\s\S]*?\n\$\$;/.exec(docs)?.[0];
  if (definition === undefined) throw new Error("docs/indexes.md has no function rows_of");
  await pool.query(definition);
  const vector = `'[${Array.from({ length: DIMENSIONS }, () => 1).join(",")}]'`;
  const client = await pool.connect();
  try {
    const times: number[] = [];
    for (const id of ["vs_1", "vs_2", `vs_${stores}`]) {
      const search = `select id from rows_of('${id}') order by embedding <=> ${vector} limit 10`;
      times.push(await time(() => client.query(search)));
    }
    note("SQL over rows_of(a store), ms, first and then", times.map((ms) => ms.toFixed(2)).join(", "));
  } finally {
    client.release(true);
  }
}

/** SQL over all stores of a cluster, and over one of them. */
async function measureUnitedView({ pool }: Database, note: Note): Promise<void> {
  const statements = {
    "SQL over all stores (all_embeddings)": "select count(*) from all_embeddings",
    "SQL over one store (all_embeddings_of)": "select count(*) from all_embeddings_of(array['vs_1'])",
  };
  for (const [name, statement] of Object.entries(statements))
    note(`${name}, ms`, (await time(() => pool.query(statement))).toFixed(0));
}

async function measureSweep(database: Database, tables: number, note: Note): Promise<void> {
  const buckets = new Buckets(undefined);
  const sweep = () =>
    sweepExpired(
      database,
      buckets,
      { graceSeconds: 60, auditDays: 365 },
      { info: () => {}, warn: (line) => console.error(line) },
      new AbortController().signal,
    );
  note("sweep that finds nothing, ms", (await time(sweep)).toFixed(0));
  // Behind all others, those of the sizes before included.
  const first = 1_000_000 + tables * EXPIRED;
  await addStores(database.pool, first, first + EXPIRED - 1, "-1 hour");
  note(`sweep of ${EXPIRED} expired stores, ms`, (await time(sweep)).toFixed(0));
}

async function time(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

await main();
