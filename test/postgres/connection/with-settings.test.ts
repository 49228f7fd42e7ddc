// A statement may have settings of its own, in the same round trip, and leaves none of them behind.
import { afterAll, expect, inject, test } from "vitest";
import { encodeVector } from "../../../src/postgres/copy.ts";
import { isCancelled } from "../../../src/postgres/errors.ts";
import { openDatabase } from "../../../src/postgres/connection/pool.ts";
import { queryWithSettings } from "../../../src/postgres/protocol/with-settings.ts";
import { searchStore, type Findings } from "../../../src/search/run.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { makeQuery, makeSearchStore } from "../../support/stores/search-store.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

const native = inject("template").kind === "postgres";
const database = await openTestDatabase();
const { tables, url } = database;
// A single connection, so that every statement meets what the one before has left behind.
const single = native
  ? await openDatabase({ url: `${url}?connection_limit=1`, tables, ...TEST_LIMITS })
  : database;
const { pool } = single;
afterAll(async () => {
  if (native) await single.close();
  await database.close();
});

const show = { text: "select current_setting('hnsw.ef_search') as value", values: [] };
const ask = async () => (await pool.query<{ value: string }>(show)).rows[0]?.value;

/** Counts the round trips of the pool's connection, each of which ends with ReadyForQuery. */
async function countRoundTrips(work: () => Promise<unknown>): Promise<number> {
  const client = await pool.connect();
  const { connection } = client as unknown as { connection: NodeJS.EventEmitter };
  client.release();
  let trips = 0;
  const count = () => void trips++;
  connection.on("readyForQuery", count);
  await work();
  connection.off("readyForQuery", count);
  return trips;
}

test("settings are those of one statement, in one round trip", async () => {
  expect(await ask()).toBe("100");
  const client = await pool.connect();
  client.release();
  const trips = await countRoundTrips(async () => {
    const { rows } = await queryWithSettings(client, show, { "hnsw.ef_search": 7, jit: "on" });
    expect(rows).toEqual([{ value: "7" }]);
  });
  expect(trips).toBe(1);
  expect(await ask()).toBe("100");
});

test("a setting that Postgres refuses fails the statement, and nothing after it", async () => {
  const client = await pool.connect();
  try {
    await expect(queryWithSettings(client, show, { work_mem: "none" })).rejects.toThrow(/work_mem/);
    await expect(
      queryWithSettings(client, { text: "select 1/$1::int", values: [0] }, { "hnsw.ef_search": 7 }),
    ).rejects.toThrow("division by zero");
    expect((await client.query(show)).rows).toEqual([{ value: "100" }]);
  } finally {
    client.release();
  }
});

// The embedded database heeds no time limit.
test.runIf(native)("a statement may have a time limit of its own, also a longer one", async () => {
  const sleep = { text: "select pg_sleep($1)", values: [0.2] };
  const client = await pool.connect();
  try {
    const cut = await queryWithSettings(client, sleep, { statement_timeout: 10 }).catch(
      (error: unknown) => error,
    );
    expect(isCancelled(cut)).toBe(true);
    await client.query("set statement_timeout = 10");
    await expect(client.query(sleep)).rejects.toThrow(/statement timeout/);
    await expect(queryWithSettings(client, sleep, { statement_timeout: 60_000 })).resolves.toBeDefined();
    await expect(client.query(sleep)).rejects.toThrow(/statement timeout/);
  } finally {
    await client.query("reset statement_timeout");
    client.release();
  }
});

test("ef_search is that of one search, which takes one round trip", async () => {
  const options = { rows: 500, dimensions: 8, precision: "float16", queries: 1 } as const;
  const { store, queries } = await makeSearchStore(database, "tuned", options);
  const vector = encodeVector(queries[0] as Float32Array);
  const search = async (efSearch?: number): Promise<Findings["method"]> => {
    const query = makeQuery({ vector, resultsMax: 20, efSearch });
    const searching = { pool, settings: {}, exactTimeoutMs: 60_000 };
    const found = await searchStore(searching, tables, store, query, new AbortController().signal);
    if (typeof found === "string") throw new Error(found);
    return found.method;
  };
  // Without iterations an index gives as many rows as ef_search; those that are missing are searched for exactly.
  await pool.query("set hnsw.iterative_scan = off");
  try {
    // More often than Postgres plans a prepared statement for each of its runs.
    for (let run = 0; run < 8; run++) {
      expect(await search(5)).toBe("exact");
      expect(await search()).toBe("index");
      expect(await search(60)).toBe("index");
    }
  } finally {
    await pool.query("reset hnsw.iterative_scan");
  }
  expect(await countRoundTrips(() => search(60))).toBe(1);
});
