import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { createDatabase } from "../bench/support/database.ts";
import { createPoints } from "../bench/support/points.ts";
import { startReport, type Columns } from "../bench/support/report.ts";
import { toBase64 } from "../bench/support/searches.ts";
import { startServer, type BenchServer } from "../bench/support/server.ts";
import { makeStore } from "../bench/support/store.ts";
import { measureCallers, type Call, type Experience } from "./load/callers.ts";
import { ingestApart, post, searches, send } from "./load/work.ts";

const USAGE = `Measures what callers get: 1 to 1,000 connections, 90 % searches and 10 % inserts; then searches beside bulk work.

  node scripts/load.ts [--seconds 20] [--rows 20000]

The database is made as for the benchmarks: see bench/README.md. All run on this machine: callers, service, Postgres.
`;

const DIMENSIONS = 384;
const CONNECTIONS = [1, 8, 64, 256, 1_000];
const INSERTS = 0.1;
/** Callers of the second part, whose p99 beside bulk work should stay within three times that without. */
const CALLERS = 4;
const FILES = 500;
/** The number of an inserted row, far from those of the store and the queries. */
const FIRST_INSERT = 10_000_000;

const SPREAD = { dimensions: DIMENSIONS, clusters: 200, seed: 1 };
const points = createPoints(SPREAD);

async function main(): Promise<void> {
  const { seconds, rows } = readOptions();
  await using database = await createDatabase();
  await using server = await startServer(database.url);
  const report = startReport("load", database.version);
  await makeStore(server, { id: "store", points, rows, precision: "float16" });
  const search = searches(points, "store", rows);

  const levels: Experience[] = [];
  for (const connections of CONNECTIONS) {
    const name = `${connections} connection${connections === 1 ? "" : "s"}`;
    levels.push(await measureCallers(server, name, connections, delay(seconds * 1000), mixed(search)));
  }
  report.add(`90 % searches, 10 % inserts, ${rows} rows of ${DIMENSIONS} dimensions`, levels, columns);

  const alone = await measureCallers(server, "nothing else", CALLERS, delay(seconds * 1000), search);
  const beside = [
    alone,
    await measureCallers(
      server,
      "an ingest at full speed",
      CALLERS,
      ingestApart(server, SPREAD, seconds).then(sayRows),
      search,
    ),
    await measureCallers(server, `a batch of ${FILES} files`, CALLERS, attachFiles(server), search),
  ];
  report.add(`Searches of ${CALLERS} callers beside`, beside, {
    ...columns,
    "p99, times alone": ({ searchP99Ms }) => (searchP99Ms / alone.searchP99Ms).toFixed(1),
  });
  report.finish();
}

function sayRows(perSecond: number): void {
  process.stderr.write(`${perSecond} rows/s were ingested beside the searches\n`);
}

const columns: Columns<Experience> = {
  "requests/s": ({ perSecond }) => perSecond.toFixed(0),
  "search p50 ms": ({ searchP50Ms }) => searchP50Ms.toFixed(1),
  "search p99 ms": ({ searchP99Ms }) => searchP99Ms.toFixed(1),
  "insert p50 ms": ({ insertP50Ms }) => (Number.isNaN(insertP50Ms) ? "" : insertP50Ms.toFixed(1)),
  "insert p99 ms": ({ insertP99Ms }) => (Number.isNaN(insertP99Ms) ? "" : insertP99Ms.toFixed(1)),
  refused: ({ refused }) => String(refused),
  failed: ({ failed }) => String(failed),
  "RSS MiB": ({ peakMiB }) => String(peakMiB),
};

function mixed(search: () => Call): () => Call {
  let calls = 0;
  return () => {
    if (calls++ % (1 / INSERTS) !== 0) return search();
    const embedding = toBase64(points.at(FIRST_INSERT + calls));
    const body = Buffer.from(JSON.stringify({ content: `inserted ${calls}`, embedding }));
    return { kind: "insert", path: "/v1/vector_stores/store/embeddings", body };
  };
}

/** Uploads files and attaches them in one batch; resolves when all are completed. */
async function attachFiles(server: BenchServer): Promise<void> {
  const store = await post(server, "/v1/vector_stores", {});
  const ids: unknown[] = [];
  for (let file = 0; file < FILES; file++) {
    const form = new FormData();
    form.set("purpose", "assistants");
    form.set("file", new Blob([`Paragraph of file ${file}. `.repeat(400)]), `file-${file}.txt`);
    ids.push((await post(server, "/v1/files", form))["id"]);
  }
  const path = `/v1/vector_stores/${String(store["id"])}/file_batches`;
  let batch = await post(server, path, { file_ids: ids });
  while (batch["status"] === "in_progress") {
    await delay(50);
    batch = await send(server, `${path}/${String(batch["id"])}`);
  }
  if (batch["status"] !== "completed") throw new Error(`The batch of files is ${String(batch["status"])}.`);
}

function readOptions(): { seconds: number; rows: number } {
  try {
    const { values } = parseArgs({
      options: { seconds: { type: "string", default: "20" }, rows: { type: "string", default: "20000" } },
    });
    const [seconds, rows] = [values.seconds, values.rows].map(Number) as [number, number];
    if (!(seconds > 0) || !Number.isSafeInteger(rows) || rows < 1)
      throw new Error("--seconds and --rows are numbers above zero.");
    return { seconds, rows };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    process.exit(2);
  }
}

await main();
