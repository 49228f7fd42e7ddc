import { connectRest } from "./support/clients.ts";
import { createDatabase } from "./support/database.ts";
import { createPoints } from "./support/points.ts";
import { startReport } from "./support/report.ts";
import { compare, type Contender } from "./support/rounds.ts";
import { RESULTS, toBase64 } from "./support/searches.ts";
import { startServer } from "./support/server.ts";
import { declareAttribute, makeStore } from "./support/store.ts";

/** What row-level security costs calls: two services on one database, one without it and one with it, in turn. */

const DIMENSIONS = 384;
const ROWS = 20_000;
const SMALL_ROWS = 2_000;
/** Number of the first query point, beyond the numbers of all rows. */
const FIRST_QUERY = 10_000_000;
const QUERIES = 200;
const ROUNDS = 15;
const CALLS = 400;

async function main(): Promise<void> {
  await using database = await createDatabase();
  await using off = await startServer(database.url, {
    INDEX_THRESHOLD_BYTES: "0",
    ROW_LEVEL_SECURITY: "off",
  });
  await using on = await startServer(database.url, { INDEX_THRESHOLD_BYTES: "0", ROW_LEVEL_SECURITY: "on" });
  const report = startReport("row-level security", database.version);
  const points = createPoints({ dimensions: DIMENSIONS, clusters: 100, seed: 1 });
  await makeStore(off, { id: "large", points, rows: ROWS, precision: "float16" });
  await declareAttribute(off, "large", { key: "position", type: "number" });
  await makeStore(off, { id: "small", points, rows: SMALL_ROWS, precision: "none" });
  const embedding = (index: number) => toBase64(points.at(FIRST_QUERY + (index % QUERIES)));
  const search = (index: number) => ({ embedding: embedding(index), max_num_results: RESULTS });
  const filter = (type: string, key: string, value: number) => ({ type, key, value });
  const shapes: Record<string, { path: string; body: (index: number) => object }> = {
    "vector index": { path: "large/search", body: search },
    "vector index, filter of half the rows": {
      path: "large/search",
      body: (index) => ({ ...search(index), filters: filter("gte", "position", ROWS / 2) }),
    },
    "filter by GIN, 0.1 %": {
      path: "large/search",
      body: (index) => ({ ...search(index), filters: filter("eq", "thousandth", index % 1000) }),
    },
    "filter by a declared attribute, 0.1 %": {
      path: "large/search",
      body: (index) => ({ ...search(index), filters: filter("gte", "position", ROWS * 0.999) }),
    },
    keywords: {
      path: "large/search",
      body: (index) => ({
        query: `text ${index}`,
        max_num_results: RESULTS,
        ranking_options: { hybrid_search: { embedding_weight: 0, text_weight: 1 } },
      }),
    },
    "exact, 2,000 rows": { path: "small/search", body: search },
    "batch of 10": {
      path: "large/search/batch",
      body: (index) => ({ searches: Array.from({ length: 10 }, (_, n) => search(index + n)) }),
    },
    "read of one embedding": { path: "large/embeddings/7", body: () => ({}) },
  };
  using plain = connectRest(off);
  using restricted = connectRest(on);
  for (const concurrency of [1, 8]) {
    for (const [name, { path, body }] of Object.entries(shapes)) {
      const url = `/v1/vector_stores/${path}`;
      const contender = (title: string, client: typeof plain, server: typeof on): Contender => ({
        name: title,
        cpuMs: server.cpuMs,
        call: async (index) =>
          path.includes("/embeddings/")
            ? client.send("GET", url)
            : client.post(url, Buffer.from(JSON.stringify(body(index)))),
      });
      const contenders = [contender("off", plain, off), contender("on", restricted, on)];
      const results = await compare(contenders, {
        rounds: ROUNDS,
        calls: CALLS / (name.startsWith("batch") ? 4 : 1),
        concurrency,
        cpuMs: off.cpuMs,
      });
      report.add(`${name}, ${concurrency} at a time`, results, {
        "p50 ms": ({ p50Ms }) => p50Ms.toFixed(3),
        "p95 ms": ({ p95Ms }) => p95Ms.toFixed(3),
        "added p50 ms": ({ addedMs }) => addedMs.toFixed(3),
        "added %": ({ addedMs, p50Ms }) => ((100 * addedMs) / (p50Ms - addedMs)).toFixed(1),
        "CPU ms of the service": ({ cpuMsPerCall }) => cpuMsPerCall.toFixed(3),
      });
    }
  }
  report.finish();
}

await main();
