import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, inject, test, vi } from "vitest";
import { reasonOf } from "../../../src/errors.ts";
import { toServiceError } from "../../../src/postgres/errors.ts";
import { openDatabase, ping } from "../../../src/postgres/connection/pool.ts";
import { quoteTables } from "../../../src/postgres/tables.ts";
import { transaction } from "../../../src/postgres/transaction.ts";
import { openTestDatabase, type TestDatabase } from "../../support/databases/database.ts";
import { startRelay, type Relay } from "../../support/servers/relay.ts";
import { startServer } from "../../support/servers/server.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

/** A database, and the same one behind a relay that can go silent. */
async function openRelayed(limits = {}) {
  const direct = await openTestDatabase();
  const url = new URL(direct.url ?? "");
  const relay = await startRelay({ address: `${url.hostname}:${url.port}` });
  url.host = relay.address;
  const options = { url: url.href, tables: quoteTables({}), ...TEST_LIMITS, ...limits };
  const database = await openDatabase(options);
  return { direct, relay, database };
}

/** Ends what `openRelayed` has begun, in an order that works on a silent relay. */
async function close({ relay, direct }: { relay: Relay; direct: TestDatabase }): Promise<void> {
  await relay[Symbol.asyncDispose]();
  await direct.close();
}

describe.runIf(inject("template").kind === "postgres")("a database whose connections go silent", () => {
  test("is used again within 5 s of being reachable, by nobody who is refused or waits for long", async () => {
    const { relay, database, direct } = await openRelayed();
    const server = await startServer({ database });
    const list = async () => {
      const startedAt = performance.now();
      const response = await fetch(`${server.url}/v1/vector_stores`);
      await response.text();
      return { status: response.status, ms: performance.now() - startedAt };
    };
    const all = () => Promise.all(Array.from({ length: 20 }, list));
    for (const { status } of await all()) expect(status).toBe(200);
    relay.hold();
    const stuck = all();
    await delay(3_000);
    relay.renew();
    const renewedAt = performance.now();
    while ((await list()).status !== 200);
    expect(performance.now() - renewedAt).toBeLessThan(5_000);
    for (const { status, ms } of await stuck) {
      expect([200, 503]).toContain(status);
      expect(ms).toBeLessThan(8_000);
    }
    await server.stop(0);
    await database.close();
    await close({ relay, direct });
  }, 60_000);

  test("fails what is in flight, and is not ready, while it cannot be reached", async () => {
    const { relay, database, direct } = await openRelayed();
    await database.pool.query("select 1");
    relay.hold();
    const startedAt = performance.now();
    const failure = await database.pool.query("select 2").catch((error: unknown) => error);
    expect(reasonOf(toServiceError(failure))).toBe("DATABASE_UNAVAILABLE");
    expect(performance.now() - startedAt).toBeLessThan(20_000);
    await expect(ping(database, 1_000)).rejects.toThrow("timeout");
    relay.renew();
    await expect(ping(database, 10_000)).resolves.toBeUndefined();
    await database.close();
    await close({ relay, direct });
  }, 60_000);

  test("is not mistaken for one that takes long", async () => {
    const { relay, database, direct } = await openRelayed({ statementTimeoutMs: 1_000 });
    const { rows } = await transaction(database.pool, async (client) => {
      await client.query("set local statement_timeout = 20000");
      return client.query("select pg_sleep(8), 'slept' as what");
    });
    expect(rows).toMatchObject([{ what: "slept" }]);
    await database.close();
    await close({ relay, direct });
  }, 60_000);

  test("has a limit to each statement although its backend is at work", async () => {
    const { relay, database, direct } = await openRelayed({ statementTimeoutMs: 4_000 });
    const client = await database.pool.connect();
    await direct.pool.query("select 1");
    // The reply does not fit into the buffers on its way, so the backend is busy with sending it.
    const failure = client
      .query("select repeat('x', 100000000) from pg_sleep(3)")
      .catch((error: unknown) => error);
    await vi.waitFor(async () => {
      const { rows } = await direct.pool.query(
        "select 1 from pg_stat_activity where datname = current_database() and query like '%repeat%' and wait_event = 'PgSleep'",
      );
      expect(rows).toHaveLength(1);
    }, 3_000);
    relay.hold();
    relay.renew();
    expect(String(await failure)).toContain("within 9000 ms");
    expect(reasonOf(toServiceError(await failure))).toBe("DATABASE_UNAVAILABLE");
    client.release();
    await database.close();
    await close({ relay, direct });
  }, 60_000);

  test("is closed within some seconds", async () => {
    const { relay, database, direct } = await openRelayed();
    const client = await database.pool.connect();
    const kept = await database.pool.connect();
    await Promise.all([database.pool.query("select 1"), database.pool.query("select 1")]);
    relay.hold();
    const startedAt = performance.now();
    const closed = database.close();
    await expect(client.query("select 1").finally(() => client.release())).rejects.toThrow("closed");
    await closed;
    kept.release();
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    await close({ relay, direct });
  });
});

test.runIf(inject("template").kind === "postgres")(
  "is not ready while nobody gets through the pool",
  async () => {
    await using database = await openTestDatabase();
    const { pool } = database;
    const clients = await Promise.all(Array.from({ length: pool.options.max }, () => pool.connect()));
    const waiting = pool.connect();
    await expect(ping(database, 10_000)).resolves.toBeUndefined();
    await vi.waitFor(() => expect(ping(database, 10_000)).rejects.toThrow("No caller"), { timeout: 15_000 });
    for (const client of clients) client.release();
    const client = await waiting;
    await client.query("select 1");
    client.release();
    await expect(ping(database, 10_000)).resolves.toBeUndefined();
  },
  60_000,
);

test.runIf(inject("template").kind === "postgres")(
  "lets no call wait for it for longer than 10 s",
  async () => {
    await using direct = await openTestDatabase();
    const limits = { ...TEST_LIMITS, poolMax: 1, connectTimeoutMs: 60_000 };
    const database = await openDatabase({ url: direct.url, tables: quoteTables({}), ...limits });
    await using server = await startServer({ database });
    const client = await database.pool.connect();
    const startedAt = performance.now();
    const response = await fetch(`${server.url}/v1/vector_stores`);
    expect(response.status).toBe(429);
    expect(response.headers.get("retry-after")).toBe("1");
    expect(performance.now() - startedAt).toBeLessThan(12_000);
    client.release();
    await server.stop(0);
    await database.close();
  },
  30_000,
);
