// The network to a worker drops everything: no connection is reset, and no answer comes.
import { afterAll, expect, test } from "vitest";
import { promoteStore } from "../../src/indexes/worker.ts";
import { citusUrls } from "../support/databases/citus.ts";
import { clusterNodes } from "../support/databases/cluster-nodes.ts";
import { seedStore, TEST_INDEXES } from "../support/stores/index-store.ts";
import { openIngest } from "../support/clients/ingest-session.ts";
import { startRelay, type Relay } from "../support/servers/relay.ts";
import { restOverHttp1 } from "../support/clients/rest-client.ts";
import { startServer } from "../support/servers/server.ts";

const server = await startServer();
const { database } = server;
const { call } = restOverHttp1.connect(server);
const { coordinator } = clusterNodes(new URL(String((database as { url?: string }).url)).href);

/** The relays by the port that the coordinator connects to, in place of the worker's. */
const relays = new Map<number, Relay>();
for (const url of citusUrls()?.workers ?? []) {
  const { hostname, port } = new URL(url);
  const relay = await startRelay({ address: `${hostname}:${port}` });
  const { port: relayed } = new URL(relay.url);
  await coordinator.query(
    `select citus_update_node(nodeid, '127.0.0.1', ${relayed}) from pg_dist_node where nodeport = ${port}`,
  );
  relays.set(Number(relayed), relay);
}
// Otherwise the nodes come to know of it in the background.
await coordinator.query("select start_metadata_sync_to_all_nodes()");
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  for (const relay of relays.values()) await relay[Symbol.asyncDispose]();
});

let stores = 0;

async function makeStore() {
  const id = `vs_${++stores}`;
  await seedStore(database, id, 10);
  await promoteStore(database, id, TEST_INDEXES);
  const [shard] = await coordinator.query<{ table: string; port: number }>(
    `select table_name::text as table, nodeport as port from citus_shards
     where table_name::text = (select own_table from vector_stores where id = '${id}')`,
  );
  const relay = relays.get(shard?.port ?? 0);
  if (shard === undefined || relay === undefined) throw new Error("The store has no shard.");
  return { id, table: shard.table, relay };
}

/** Two stores on different workers. */
async function makeStores() {
  const first = await makeStore();
  for (;;) {
    const other = await makeStore();
    if (other.relay !== first.relay) return { silent: first, other };
  }
}

const search = (id: string) =>
  call("SearchService/Search", { vector_store_id: id, embedding: [1, 2, 3], max_num_results: 10 }).then(
    ({ data }) => data.length as number,
    ({ code }: { code: string }) => code,
  );

function rowsFrom(first: number, count: number) {
  return Array.from({ length: count }, (_, index) => ({
    id: `x${first + index}`,
    content: "four",
    embedding: [first + index, 1, 2],
  }));
}

async function timed<T>(work: Promise<T>): Promise<{ result: T; ms: number }> {
  const startedAt = performance.now();
  return { result: await work, ms: performance.now() - startedAt };
}

/** Ends the silence as a reset of all connections does. */
function heal(relay: Relay): void {
  relay.renew();
  relay.cut();
}

test("searches of its stores are unavailable within seconds, those of other nodes go on, and it comes back", async () => {
  const { silent, other } = await makeStores();
  const warm = await Promise.all(Array.from({ length: 8 }, () => search(silent.id)));
  expect(warm).toEqual(warm.map(() => 10));
  silent.relay.hold();
  const caught = await Promise.all(Array.from({ length: 8 }, () => timed(search(silent.id))));
  for (const { result, ms } of caught) {
    expect(result).toBe("unavailable");
    expect(ms).toBeLessThan(15_000);
  }
  // Now it is known to be silent: calls are refused at once, and leave no backend behind.
  const backends = () =>
    coordinator.query<{ count: number }>(
      "select count(*)::int as count from pg_stat_activity where datname = current_database() and query like '%<=>%' and state = 'active'",
    );
  const [before] = await backends();
  for (let count = 0; count < 50; count++) {
    const { result, ms } = await timed(search(silent.id));
    expect(result).toBe("unavailable");
    expect(ms).toBeLessThan(5_000);
    expect(await search(other.id)).toBe(10);
  }
  const [after] = await backends();
  expect(after?.count).toBeLessThanOrEqual(before?.count ?? 0);
  await expect(call("IndexService/GetIndex", { vector_store_id: silent.id })).rejects.toMatchObject({
    code: "unavailable",
  });
  heal(silent.relay);
  await expect.poll(() => search(silent.id), { timeout: 30_000, interval: 100 }).toBe(10);
}, 120_000);

test("an ingest goes on after it, and no row is lost or doubled", async () => {
  const { silent } = await makeStores();
  const first = openIngest(server, "", silent.id, { ingestId: "ing_1" });
  first.summary.catch(() => {});
  await first.opened;
  first.send(1, rowsFrom(0, 50));
  const count = async () =>
    (
      await coordinator.query<{ counted: number; rows: number; ids: number }>(
        `select embedding_count::int as counted, (select count(*)::int from ${silent.table}) as rows,
           (select count(distinct id)::int from ${silent.table}) as ids from vector_stores where id = '${silent.id}'`,
      )
    )[0];
  await expect.poll(count, { timeout: 30_000 }).toEqual({ counted: 60, rows: 60, ids: 60 });
  silent.relay.hold();
  first.send(2, rowsFrom(50, 50));
  await expect(first.summary).rejects.toThrow("cannot be reached");
  const inserted = await timed(
    call("EmbeddingService/BatchCreateEmbeddings", {
      vector_store_id: silent.id,
      embeddings: rowsFrom(1_000, 5),
    }).then(
      () => "added",
      ({ code }: { code: string }) => code,
    ),
  );
  expect(inserted.result).toBe("unavailable");
  expect(inserted.ms).toBeLessThan(15_000);
  heal(silent.relay);
  await expect.poll(() => search(silent.id), { timeout: 30_000, interval: 100 }).toBe(10);
  await expect
    .poll(
      async () => {
        const again = openIngest(server, "", silent.id, { ingestId: "ing_1" });
        again.summary.catch(() => {});
        await again.opened;
        again.send(2, rowsFrom(50, 50));
        again.send(3, rowsFrom(100, 50));
        again.finish(150);
        return again.summary.then(
          () => "done",
          (error: Error) => error.message,
        );
      },
      { timeout: 60_000, interval: 200 },
    )
    .toBe("done");
  expect(await count()).toEqual({ counted: 160, rows: 160, ids: 160 });
}, 180_000);
