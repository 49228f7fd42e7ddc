import { setImmediate } from "node:timers/promises";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { connectNode, grpcJs } from "../../support/clients/ingest-client.ts";
import {
  batch,
  createStore,
  deleteStore,
  expectExactCounts,
  expectNoLeak,
  ingestAll,
  makeRows,
  open,
  readIds,
} from "../../support/stores/ingest-store.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

let storeId: string;
beforeEach(async () => {
  storeId = await createStore(server);
});

async function expectNothingLeft(id: string): Promise<void> {
  await expectNoLeak(server);
  expect(await readIds(server, id)).toEqual([]);
  const { rows } = await pool.query("select * from pgquiver_ingests where vector_store_id = $1", [id]);
  expect(rows).toEqual([]);
}

const notFound = { code: "not_found", reason: "NOT_FOUND", param: "vector_store_id" };
const settings = ["WRITE_MODE_INSERT", "WRITE_MODE_UPSERT", "WRITE_MODE_SKIP_EXISTING"];

describe.each([grpcJs, connectNode])("with $name", (library) => {
  const client = library.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  test.each(settings)("a store deleted during a stream ends it, and nothing is left (%s)", async (mode) => {
    const { send, next } = client.session();
    await send(open(storeId, { mode }));
    await next();
    await send(batch(1, makeRows(10)));
    await next();
    await deleteStore(server, storeId);
    await send(batch(2, makeRows(10, "s")));
    await expect(next()).rejects.toMatchObject(notFound);
    await expectNothingLeft(storeId);
  });

  test("a store deleted before a stream's finish, or before a batch that is refused, ends it", async () => {
    for (const last of [{ finish: { rows: 1 } }, batch(2, [{ id: "bad" }])]) {
      const id = await createStore(server);
      const { send, next } = client.session();
      await send(open(id));
      await next();
      await send(batch(1, makeRows(1)));
      await next();
      await deleteStore(server, id);
      await send(last);
      await expect(next()).rejects.toMatchObject(notFound);
      await expectNothingLeft(id);
    }
  });

  test("a store deleted at a random moment of a fast stream leaves nothing", async () => {
    for (const [round, mode] of settings.entries()) {
      const id = await createStore(server);
      const { send, next } = client.session();
      await send(open(id, { mode }));
      await next();
      let isOver = false;
      const sending = (async () => {
        for (let seq = 1; !isOver; seq++) {
          await send(batch(seq, makeRows(20, "r", seq * 20)));
          await setImmediate();
        }
      })();
      for (let seen = 0; seen <= round; seen++) await next();
      await deleteStore(server, id);
      const receiving = async () => {
        // What was on its way when the store went may still be acknowledged.
        while ((await next()) !== undefined);
      };
      await expect(receiving()).rejects.toMatchObject({ code: "not_found" });
      isOver = true;
      await sending;
      await expectNothingLeft(id);
    }
  });

  test("an unknown store is refused", async () => {
    for (const id of ["vs_none", "a\0b"]) {
      await expect(ingestAll(client, [open(id), batch(1, makeRows(1))])).rejects.toMatchObject(notFound);
    }
  });

  test("an expired store is refused, also when it expires during the stream", async () => {
    const expired = { code: "failed_precondition", reason: "VECTOR_STORE_EXPIRED" };
    const { send, next } = client.session();
    await send(open(storeId));
    await next();
    await send(batch(1, makeRows(1)));
    await next();
    await pool.query("update vector_stores set expires_at = now() - interval '1 second' where id = $1", [
      storeId,
    ]);
    await send(batch(2, makeRows(1, "s")));
    await expect(next()).rejects.toMatchObject(expired);
    await expect(ingestAll(client, [open(storeId)])).rejects.toMatchObject(expired);
    expect(await readIds(server, storeId)).toEqual(["r000000"]);
    expect(await expectExactCounts(server, storeId)).toBe(1);
    await expectNoLeak(server);
  });

  test("of two first streams with vectors of two lengths the store keeps one", async () => {
    const sessions = [client.session(), client.session()];
    // Both are open before either sends a row: who opens later knows the length, and has the row refused.
    for (const { send, next } of sessions) {
      await send(open(storeId));
      await next();
    }
    const streams = sessions.map(async ({ send, next }, index) => {
      const embedding = index === 0 ? [1, 2] : [1, 2, 3];
      await send(batch(1, [{ id: `d${embedding.length}`, content: "x", embedding }]));
      return next();
    });
    const outcomes = await Promise.allSettled(streams);
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    expect(outcomes.find((outcome) => outcome.status === "rejected")?.reason).toMatchObject({
      code: "invalid_argument",
      reason: "DIMENSION_MISMATCH",
    });
    expect(await expectExactCounts(server, storeId)).toBe(1);
    await expectNoLeak(server);
  });
});

test("a whole stream into a store that is deleted meanwhile stores nothing", async () => {
  await using client = grpcJs.connect(server);
  const { send, next } = client.session();
  await send(open(storeId, { atomicity: "ATOMICITY_STREAM" }));
  await next();
  await send(batch(1, makeRows(10)));
  const deleting = deleteStore(server, storeId);
  // On the embedded database the deletion waits for the stream, which holds the one connection.
  if (server.database.kind === "postgres") await deleting;
  await send({ finish: { rows: 10 } });
  if (server.database.kind === "postgres") await expect(next()).rejects.toMatchObject(notFound);
  else expect(await next()).toMatchObject({ summary: { rows_written: 10 } });
  await deleting;
  await expectNothingLeft(storeId);
});
