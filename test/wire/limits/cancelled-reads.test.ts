import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import pg from "pg";
import { expect, onTestFinished, test } from "vitest";
import { VectorStoreService } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { startServer } from "../../support/servers/server.ts";

/** Calls that read by a single statement: their statement ends when their caller leaves. */
const database = await openTestDatabase();
const server = await startServer({ database });

/** Locks the table of stores, so that whoever reads it waits in Postgres, and returns how many wait. */
async function lockStores() {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  onTestFinished(() => client.end());
  await client.query("begin");
  await client.query(`lock table ${database.tables.vectorStores} in access exclusive mode`);
  return async (): Promise<number> => {
    const { rows } = await database.probe.query(
      "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    return rows.length;
  };
}

test.runIf(database.kind === "postgres")("a list whose caller leaves is cancelled in Postgres", async () => {
  onTestFinished(async () => {
    await server[Symbol.asyncDispose]();
    await database.close();
  });
  const waiting = await lockStores();
  const overRest = new AbortController();
  const list = fetch(`${server.url}/v1/vector_stores`, { signal: overRest.signal });
  list.catch(() => {});
  const overGrpc = new AbortController();
  const { listVectorStores } = createClient(VectorStoreService, createGrpcTransport({ baseUrl: server.url }));
  const call = listVectorStores({}, { signal: overGrpc.signal }).catch((error: unknown) => error);
  await expect.poll(waiting).toBe(2);
  overRest.abort();
  await expect.poll(waiting, { timeout: 10_000 }).toBe(1);
  overGrpc.abort();
  expect(ConnectError.from(await call).code).toBe(Code.Canceled);
  await expect.poll(waiting, { timeout: 10_000 }).toBe(0);
});
