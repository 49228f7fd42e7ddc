import { afterAll, expect, test } from "vitest";
import { openTestDatabase } from "../support/databases/database.ts";
import { jsonClient } from "../support/clients/json.ts";
import { startServer } from "../support/servers/server.ts";

const database = await openTestDatabase();
const server = await startServer({ database, indexes: { isWorking: true }, indexPollMs: 20 });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
});
const { pool } = database;
const send = jsonClient(server.url);

const STORES = 12;

/** Counts the rows of a statement. */
const count = async (statement: string) => (await pool.query(statement)).rowCount;

// A build on a worker waits for the transaction of the deletion, whose DROP TABLE waits for the build: each time a deadlock.
test("stores are deleted while their index is built, and nothing of them is left", async () => {
  const embeddings = Array.from({ length: 300 }, (_, n) => ({ id: `e${n}`, content: `text ${n}` }));
  const outcomes: unknown[] = [];
  for (let store = 0; store < STORES; store++) {
    const path = `/v1/vector_stores/s${store}`;
    await send("POST", "/v1/vector_stores", { id: `s${store}` });
    await send("POST", `${path}/embeddings/batch`, { embeddings });
    await send("POST", `${path}/index`, { policy: "always" });
    await expect
      .poll(async () => (await send("GET", path)).json["index_state"], { interval: 20 })
      .toBe("ready");
    await send("POST", `${path}/index/rebuild`, {});
    await expect
      .poll(
        () =>
          count(
            "select from pg_stat_activity where datname = current_database() and state = 'active' and query like 'create index concurrently%'",
          ),
        { interval: 2 },
      )
      .not.toBe(0);
    const { status, json } = await send("DELETE", path);
    outcomes.push({ status, json });
  }
  expect(outcomes).toEqual(
    Array.from({ length: STORES }, (_, store) => ({
      status: 200,
      json: { id: `s${store}`, object: "vector_store.deleted", deleted: true },
    })),
  );
  // The index worker drops the tables that the deletions have left to it.
  await expect.poll(() => count("select from pg_dist_partition where partmethod = 'h'")).toBe(0);
  expect(await count("select from pgquiver_indexes")).toBe(0);
});
