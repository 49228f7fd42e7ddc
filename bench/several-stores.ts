import { connectRest } from "./support/clients.ts";
import { createDatabase } from "./support/database.ts";
import { createPoints } from "./support/points.ts";
import { startReport } from "./support/report.ts";
import { compare } from "./support/rounds.ts";
import { RESULTS, toBase64 } from "./support/searches.ts";
import { startServer } from "./support/server.ts";
import { makeStore } from "./support/store.ts";

/** One search of 16 stores beside 16 searches: what SearchVectorStores saves. */

const STORES = Array.from({ length: 16 }, (_, index) => `store-${index}`);
const DIMENSIONS = 384;
const ROWS = 2_000;
/** Number of the first query point, beyond the numbers of all rows. */
const FIRST_QUERY = 10_000_000;
const ROUNDS = 7;
const CALLS = 40;

async function main(): Promise<void> {
  await using database = await createDatabase();
  await using server = await startServer(database.url, {});
  const report = startReport("search of several stores", database.version);
  const points = createPoints({ dimensions: DIMENSIONS, clusters: 100, seed: 1 });
  for (const id of STORES) await makeStore(server, { id, points, rows: ROWS, precision: "none" });
  using client = connectRest(server);
  const search = (index: number) => ({
    embedding: toBase64(points.at(FIRST_QUERY + index)),
    max_num_results: RESULTS,
  });
  const post = async (path: string, body: object) => client.post(path, Buffer.from(JSON.stringify(body)));
  const ofOne = async (id: string, index: number) => post(`/v1/vector_stores/${id}/search`, search(index));
  const contenders = [
    {
      name: "16 searches at once",
      call: async (index: number) => Promise.all(STORES.map(async (id) => ofOne(id, index))),
    },
    {
      name: "16 searches in turn",
      async call(index: number) {
        for (const id of STORES) await ofOne(id, index);
      },
    },
    {
      name: "one search of 16 stores",
      call: async (index: number) => post("/v1/search", { ...search(index), vector_store_ids: STORES }),
    },
  ];
  for (const concurrency of [1, 4]) {
    const results = await compare(contenders, {
      rounds: ROUNDS,
      calls: CALLS,
      concurrency,
      cpuMs: server.cpuMs,
    });
    report.add(`${concurrency} at a time`, results, {
      "p50 ms": ({ p50Ms }) => p50Ms.toFixed(2),
      "p95 ms": ({ p95Ms }) => p95Ms.toFixed(2),
      "CPU ms of the service": ({ cpuMsPerCall }) => cpuMsPerCall.toFixed(2),
    });
  }
  report.finish();
}

await main();
