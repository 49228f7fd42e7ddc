// The recall of searches over the wire: measured in the background, shown in the status of the index and in the metrics.
import { afterAll, expect, test, vi } from "vitest";
import { createRandom, makeVectors } from "../../../bench/support/random.ts";
import type { Json } from "../../support/clients/client.ts";
import { send } from "../../support/clients/http.ts";
import { restOverHttp1 } from "../../support/clients/rest-client.ts";
import { startServer } from "../../support/servers/server.ts";

const ROWS = 1_000;
const SIZE = { dimensions: 16, clusters: ROWS };
const server = await startServer({
  indexes: { isWorking: true },
  indexPollMs: 20,
  search: { recallShare: 1 },
});
const rest = restOverHttp1.connect(server);
afterAll(async () => {
  await rest[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function makeStore(): Promise<string> {
  const { id } = await rest.call("VectorStoreService/CreateVectorStore", { dimensions: SIZE.dimensions });
  const embeddings = makeVectors(createRandom(1), ROWS, SIZE).map((embedding, row) => ({
    content: `text ${row}`,
    embedding,
  }));
  await rest.call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings });
  await rest.call("IndexService/UpdateIndex", { vector_store_id: id, policy: "always", target_recall: 0.95 });
  await vi.waitFor(async () => expect((await readIndex(id as string))["state"]).toBe("ready"), {
    timeout: 60_000,
    interval: 50,
  });
  return id as string;
}

const readIndex = (id: string): Promise<Json> => rest.call("IndexService/GetIndex", { vector_store_id: id });

test("searches are measured and tuned in the background, exact ones and those of other stores are not", async () => {
  const id = await makeStore();
  const vectors = makeVectors(createRandom(2), 100, SIZE);
  let next = 0;
  const search = (more: Json = {}) =>
    rest.call("SearchService/Search", {
      vector_store_id: id,
      embedding: vectors[next++ % vectors.length],
      ...more,
    });
  for (let count = 0; count < 30; count++) await search({ exact: true });
  await vi.waitFor(
    async () => {
      await search();
      const { recall } = await readIndex(id);
      expect(recall).toEqual({
        recall: expect.any(Number) as number,
        ef_search: expect.any(Number) as number,
        queries: 20,
        measured_at: expect.any(Number) as number,
      });
    },
    { timeout: 60_000, interval: 5 },
  );
  const { recall, filtered_recall, target_recall } = await readIndex(id);
  expect(target_recall).toBe(0.95);
  expect(filtered_recall).toBeNull();
  const { ef_search: efSearch, recall: found } = recall as { ef_search: number; recall: number };
  // The default of 100 finds more than is asked.
  expect(efSearch).toBeLessThan(100);
  expect(found).toBeGreaterThanOrEqual(0.95);
  const { rows } = await server.database.pool.query("select ef_search from vector_stores where id = $1", [
    id,
  ]);
  expect(rows).toEqual([{ ef_search: efSearch }]);
  const metrics = (await send(`${server.url}/metrics`, "GET")).text;
  expect(metrics).toContain(`pgquiver_lowest_recall{searches="unfiltered"} ${found}`);
  expect(metrics).toContain("pgquiver_vector_stores_below_target_recall 0");
  expect(/^pgquiver_recall_comparison_seconds_count (\d+)$/m.exec(metrics)?.[1]).toBe("20");
});
