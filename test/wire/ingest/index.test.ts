// An index is begun when a bulk ingest has ended, not at the index worker's next poll.
import { afterAll, beforeEach, expect, test, vi } from "vitest";
import { grpcJs } from "../../support/clients/ingest-client.ts";
import { batch, createStore, makeRows, open } from "../../support/stores/ingest-store.ts";
import { findIndex } from "../../support/stores/index-store.ts";
import { startServer } from "../../support/servers/server.ts";

// A test ends long before the worker polls for the second time.
const server = await startServer({ indexes: { isWorking: true, thresholdBytes: 0 }, indexPollMs: 3_600_000 });
const client = grpcJs.connect(server);
afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

let storeId: string;
beforeEach(async () => {
  storeId = await createStore(server);
  await requestIndex();
});

async function requestIndex(): Promise<void> {
  const reply = await fetch(`${server.url}/v1/vector_stores/${storeId}/index`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ policy: "always" }),
  });
  expect(reply.status).toBe(200);
}

const untilReady = () =>
  vi.waitFor(async () => expect((await findIndex(server.database, storeId)).index_state).toBe("ready"), {
    timeout: 60_000,
    interval: 20,
  });

test("after an ingest that makes a store due for an index", async () => {
  const session = client.session();
  await session.send(open(storeId));
  await session.next();
  await session.send(batch(1, makeRows(10)));
  await session.next();
  await session.send({ finish: { rows: 10 } });
  expect(await session.next()).toMatchObject({ summary: { rows_written: 10 } });
  session.end();
  await untilReady();
});

test.each(["finished", "aborted"])("after an ingest that postponed an index and is %s", async (ending) => {
  const session = client.session();
  await session.send(open(storeId, { ingest_id: "one" }));
  await session.next();
  await session.send(batch(1, makeRows(10)));
  await session.next();
  // Wakes the worker, which meets the open ingest.
  await requestIndex();
  await vi.waitFor(
    async () => {
      const { rows } = await server.database.pool.query(
        "select retry_at from pgquiver_indexes where vector_store_id = $1",
        [storeId],
      );
      expect(rows[0]?.retry_at).toBeInstanceOf(Date);
    },
    { timeout: 60_000, interval: 20 },
  );
  if (ending === "finished") await session.send({ finish: { rows: 10 } });
  else {
    const path = `/v1/vector_stores/${storeId}/ingests/one/abort`;
    expect((await fetch(server.url + path, { method: "POST" })).status).toBe(200);
  }
  await untilReady();
  session.cancel();
});
