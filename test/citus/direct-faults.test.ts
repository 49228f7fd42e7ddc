// Direct searches when the worker cannot be reached from the service, though from the coordinator.
import { pino } from "pino";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { promoteStore } from "../../src/indexes/worker.ts";
import type { ServerAddress } from "../../src/postgres/database.ts";
import { citusUrls } from "../support/databases/citus.ts";
import { clusterNodes } from "../support/databases/cluster-nodes.ts";
import { openTestDatabase } from "../support/databases/database.ts";
import { readWays } from "../support/databases/direct-searches.ts";
import { seedStore, TEST_INDEXES } from "../support/stores/index-store.ts";
import { freePort } from "../support/servers/process.ts";
import { startRelay, type Relay } from "../support/servers/relay.ts";
import { restOverHttp1 } from "../support/clients/rest-client.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";

const database = await openTestDatabase();
afterAll(() => database[Symbol.asyncDispose]());
const { coordinator, workers } = clusterNodes(String(database.url));
const ports = (citusUrls()?.workers ?? []).map((url) => Number(new URL(url).port));

let stores = 0;

/** A store, and the port of its worker. */
async function makeStore(): Promise<{ id: string; table: string; port: number }> {
  const id = `vs_${++stores}`;
  await seedStore(database, id, 10);
  await promoteStore(database, id, TEST_INDEXES);
  const [shard] = await coordinator.query<{ table: string; port: number }>(
    `select table_name::text as table, nodeport as port from citus_shards
     where table_name::text = (select own_table from vector_stores where id = '${id}')`,
  );
  if (shard === undefined) throw new Error("The store has no shard.");
  return { id, ...shard };
}

interface Service {
  server: TestServer;
  /** Searches a store; how many rows it finds, or the code of the error, and the way that the search took. */
  search: (id: string, request?: object) => Promise<{ found: number | string; way: string; ms: number }>;
  /** The messages of the log. */
  messages: string[];
}

const BY_VECTOR = { embedding: [1, 2, 3], exact: true };
const BY_BOTH = {
  ...BY_VECTOR,
  query: "text",
  ranking_options: { hybrid_search: { embedding_weight: 1, text_weight: 1 } },
};

/** A service that reaches workers at other addresses than the coordinator does. */
async function startBehind(translate: (address: ServerAddress) => ServerAddress): Promise<Service> {
  const messages: string[] = [];
  const log = pino(
    {},
    { write: (line) => void messages.push((JSON.parse(line) as { msg?: string }).msg ?? "") },
  );
  const { openServer: open } = database;
  if (open === undefined) throw new Error("The database has no URL.");
  const server = await startServer({
    database: { ...database, openServer: (address, check) => open(translate(address), check) },
    log,
  });
  onTestFinished(() => server[Symbol.asyncDispose]());
  const { call } = restOverHttp1.connect(server);
  return {
    server,
    messages,
    async search(id, request = BY_VECTOR) {
      const before = await readWays(server);
      const startedAt = performance.now();
      const asked = { vector_store_id: id, ...request };
      const found = await call("SearchService/Search", asked).then(
        ({ data }) => data.length as number,
        ({ code }: { code: string }) => code,
      );
      const ms = performance.now() - startedAt;
      const after = await readWays(server);
      const way = Object.keys(after).filter((one) => after[one] !== before[one]);
      return { found, way: way.join(" "), ms };
    },
  };
}

async function untilDirect({ search }: Service, id: string): Promise<void> {
  const way = async () => (await search(id)).way;
  await expect.poll(way, { timeout: 60_000, interval: 50 }).toBe("direct");
}

/** Connections of services to a worker, but for those of the coordinator. */
async function connectionsTo(port: number): Promise<number> {
  const worker = workers[ports.indexOf(port)];
  const rows = await worker?.query<{ count: number }>(
    "select count(*)::int as count from pg_stat_activity where datname = current_database() and application_name = 'pgquiver'",
  );
  return rows?.[0]?.count ?? -1;
}

test.each(["another worker", "a port that nobody listens on"])(
  "searches go through the coordinator where the address leads to %s, and the log says why",
  async (where) => {
    const store = await makeStore();
    const wrong = where === "another worker" ? ports.find((port) => port !== store.port) : await freePort();
    const service = await startBehind(({ host }) => ({ host, port: wrong ?? 0 }));
    const reason =
      where === "another worker"
        ? "the address leads to another server than from the coordinator"
        : "connect ECONNREFUSED";
    const said = () => service.messages.filter((message) => message.includes("do not go directly"));
    await expect
      .poll(
        async () => {
          expect(await service.search(store.id)).toMatchObject({ found: 10, way: "unreachable" });
          return said();
        },
        { timeout: 30_000, interval: 20 },
      )
      .toEqual([expect.stringContaining(`the node 127.0.0.1:${store.port}: ${reason}`)]);
    for (let count = 0; count < 50; count++) {
      const { found, way, ms } = await service.search(store.id, count % 2 === 0 ? BY_VECTOR : BY_BOTH);
      expect({ found, way }).toEqual({ found: 10, way: "unreachable" });
      expect(ms).toBeLessThan(2_000);
    }
    expect(said()).toHaveLength(1);
  },
);

test.each([
  ["vector", BY_VECTOR],
  ["vector and words", BY_BOTH],
])(
  "a worker that falls silent is searched by %s through the coordinator, and directly when it is back",
  async (_kind, request) => {
    const relays = new Map<number, Relay>();
    for (const port of ports) relays.set(port, await startRelay({ address: `127.0.0.1:${port}` }));
    onTestFinished(async () => {
      for (const relay of relays.values()) await relay[Symbol.asyncDispose]();
    });
    const store = await makeStore();
    const service = await startBehind(({ host, port }) => {
      const { port: relayed } = new URL(relays.get(port)?.url ?? "");
      return { host, port: Number(relayed) };
    });
    await untilDirect(service, store.id);
    const relay = relays.get(store.port);
    const searchThrice = () =>
      Promise.all(Array.from({ length: 3 }, () => service.search(store.id, request)));
    // Afterwards each of three searches gets a connection that was there before the silence.
    await searchThrice();
    relay?.hold();
    const caught = await searchThrice();
    expect(caught.map(({ found }) => found)).toEqual([10, 10, 10]);
    // Less than the pool itself takes to give up, 8 s.
    for (const { ms } of caught) expect(ms).toBeLessThan(7_500);
    for (let count = 0; count < 20; count++) {
      const { found, way, ms } = await service.search(store.id, request);
      expect({ found, way }).toEqual({ found: 10, way: "unreachable" });
      expect(ms).toBeLessThan(2_000);
    }
    relay?.renew();
    relay?.cut();
    await untilDirect(service, store.id);
  },
);

test("a worker that crashes is searched directly again", async () => {
  const store = await makeStore();
  const service = await startBehind((address) => address);
  await untilDirect(service, store.id);
  const crashed = workers[ports.indexOf(store.port)]?.crash();
  const found = new Set<number | string>();
  let isOver = false;
  void crashed?.finally(() => (isOver = true));
  while (!isOver) found.add((await service.search(store.id)).found);
  await crashed;
  // No worker, no rows of it; never some of them.
  for (const each of found) expect([10, "unavailable"]).toContain(each);
  await untilDirect(service, store.id);
  expect((await service.search(store.id)).found).toBe(10);
});

test("the connections to a worker end when it leaves the cluster, and with the service", async () => {
  const store = await makeStore();
  const service = await startBehind((address) => address);
  await untilDirect(service, store.id);
  const connections = () => connectionsTo(store.port);
  expect(await connections()).toBeGreaterThan(0);
  await coordinator.query(`select citus_drain_node('127.0.0.1', ${store.port}, 'block_writes')`);
  await expect
    .poll(() => coordinator.query("call citus_cleanup_orphaned_resources()").then(() => true), {
      timeout: 60_000,
    })
    .toBe(true);
  await coordinator.query(`select citus_remove_node('127.0.0.1', ${store.port})`);
  // The first search meets the node that is none any more.
  await untilDirect(service, store.id);
  await expect.poll(connections, { timeout: 5_000, interval: 50 }).toBe(0);
  const other = ports.find((port) => port !== store.port) ?? 0;
  expect(await connectionsTo(other)).toBeGreaterThan(0);
  await service.server.stop(0);
  await expect.poll(() => connectionsTo(other), { timeout: 5_000, interval: 50 }).toBe(0);
});
