import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import pg from "pg";
import { describe, expect, inject, onTestFinished, test, vi } from "vitest";
import { compare } from "../../../scripts/crash/check.ts";
import { seededRandom } from "../../../scripts/crash/random.ts";
import { runTrial, type Trial } from "../../../scripts/crash/trial.ts";
import { openDatabase } from "../../../src/postgres/connection/pool.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import { quoteTables } from "../../../src/postgres/tables.ts";
import { nativePostgres } from "../../support/databases/cluster.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { startRelay } from "../../support/servers/relay.ts";
import { startServer, type TestServer } from "../../support/servers/server.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

/** How soon after the promotion a write must succeed. */
const FAILOVER_MS = 5_000;

let pairs = 0;

/** Two servers, of which the second is a synchronous replica of the first: what one has acknowledged, both have. */
async function startPair() {
  const number = `${process.pid}-${pairs++}`;
  const [primary, replica] = [`failover-primary-${number}`, `failover-replica-${number}`];
  onTestFinished(async () => {
    await nativePostgres("stop", "--name", replica);
    await nativePostgres("stop", "--name", primary);
  });
  const primaryUrl = await nativePostgres("start", "--name", primary);
  const replicaUrl = await nativePostgres("replica", "--name", replica, "--of", primary);
  await query(primaryUrl, `alter system set synchronous_standby_names = '"${replica}"'`);
  await query(primaryUrl, "select pg_reload_conf()");
  await vi.waitFor(async () => {
    const rows = await query(primaryUrl, "select sync_state from pg_stat_replication");
    expect(rows).toEqual([{ sync_state: "sync" }]);
  }, 30_000);
  return { primary, replica, primaryUrl, replicaUrl };
}

async function query(url: string, statement: string): Promise<unknown[]> {
  const client = new pg.Client(url);
  client.on("error", () => {});
  await client.connect();
  try {
    return (await client.query(statement)).rows;
  } finally {
    await client.end();
  }
}

/** The service on the servers at these addresses. */
async function serve(addresses: readonly string[]) {
  const database = await openDatabase({
    url: `postgresql://postgres@${addresses.join(",")}/postgres?target_session_attrs=read-write`,
    tables: quoteTables({}),
    ...TEST_LIMITS,
  });
  await migrate(database);
  const server = await startServer({ database, indexes: { isWorking: true, thresholdBytes: 0 } });
  onTestFinished(async () => {
    await server[Symbol.asyncDispose]();
    await database.close();
  });
  return { server, database };
}

/** A client that adds rows to a store of its own, each once, one after the other, until it is stopped. */
async function startWriter({ url }: TestServer) {
  const created = await fetch(`${url}/v1/vector_stores`, { method: "POST" });
  const { id } = (await created.json()) as { id: string };
  const acknowledged: string[] = [];
  const statuses = new Set<number>();
  const stopped = new AbortController();
  let sent = 0;
  const run = async () => {
    while (!stopped.signal.aborted) {
      const content = `row ${sent++}`;
      const response = await fetch(`${url}/v1/vector_stores/${id}/embeddings`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ content, embedding: [1, 0] }),
      });
      await response.text();
      statuses.add(response.status);
      if (response.status === 200) acknowledged.push(content);
    }
  };
  const ended = run();
  ended.catch(() => {});
  return {
    storeId: id,
    acknowledged,
    statuses,
    async stop() {
      stopped.abort();
      await ended;
    },
  };
}

/** Waits until `/readyz` answers so. */
async function untilReady({ url }: TestServer, status: 200 | 503): Promise<void> {
  await vi.waitFor(async () => expect((await fetch(`${url}/readyz`)).status).toBe(status), {
    timeout: 30_000,
    interval: 20,
  });
}

type Pair = Awaited<ReturnType<typeof startPair>>;

/** Four writers and the clients of an ingest are at work while the primary dies and the replica is promoted. */
async function failOverUnderLoad(server: TestServer, { replicaUrl }: Pair, die: () => Promise<void> | void) {
  const writers = await Promise.all(Array.from({ length: 4 }, () => startWriter(server)));
  const failOver = async () => {
    await die();
    await untilReady(server, 503);
    await query(replicaUrl, "select pg_promote()");
    const promotedAt = performance.now();
    const before = writers.map(({ acknowledged }) => acknowledged.length);
    await vi.waitFor(
      () => expect(writers.some(({ acknowledged }, n) => acknowledged.length > (before[n] ?? 0))).toBe(true),
      { timeout: 60_000, interval: 5 },
    );
    const ms = performance.now() - promotedAt;
    await untilReady(server, 200);
    return ms;
  };
  let struck: Promise<number> | undefined;
  const trials: Trial[] = [];
  const bench = {
    address: async () => server.address,
    strike: async () => void (await (struck ??= failOver())),
    watcher: undefined,
  };
  for (let number = 0; struck === undefined || trials.length < 3; number++)
    trials.push(await runTrial(seededRandom(5, number), bench));
  const ms = await struck;
  await Promise.all(writers.map((writer) => writer.stop()));
  return { writers, trials, ms };
}

/** Compares the new primary's rows with what the clients were told. */
async function expectNothingLost(
  url: string,
  { writers, trials }: Pick<Awaited<ReturnType<typeof failOverUnderLoad>>, "writers" | "trials">,
) {
  const database = await openDatabase({ url, tables: quoteTables({}), ...TEST_LIMITS });
  const { pool } = database;
  onTestFinished(() => database.close());
  for (const { storeId, acknowledged, statuses } of writers) {
    const { rows } = await pool.query<{ content: string }>(
      "select content from embeddings where vector_store_id = $1",
      [storeId],
    );
    const contents = rows.map(({ content }) => content);
    expect(new Set(contents).size).toBe(contents.length);
    expect(acknowledged.filter((content) => !contents.includes(content))).toEqual([]);
    // 429: the call has waited 10 s for a connection.
    expect([200, 503, 429]).toEqual(expect.arrayContaining([...statuses]));
  }
  for (const trial of trials)
    expect(await compare(pool, trial)).toEqual({ rowsLost: 0, rowsDoubled: 0, problems: [] });
}

const addressOf = (url: string) => new URL(url).host;

describe.runIf(inject("template").kind === "postgres")("a service with the URL of two servers", () => {
  test("goes on with the promoted replica when the primary was killed, and not with a standby in its place", async () => {
    const pair = await startPair();
    const addresses = [addressOf(pair.primaryUrl), addressOf(pair.replicaUrl)];
    const { server, database } = await serve(addresses);
    const load = await failOverUnderLoad(server, pair, async () => {
      await nativePostgres("kill", "--name", pair.primary);
    });
    expect(load.ms).toBeLessThan(FAILOVER_MS);
    await expectNothingLost(pair.replicaUrl, load);

    await nativePostgres("stop", "--name", pair.primary);
    const standbyUrl = await nativePostgres("replica", "--name", pair.primary, "--of", pair.replica);
    await using standby = await startRelay(
      { address: addressOf(standbyUrl) },
      Number(new URL(pair.primaryUrl).port),
    );
    expect(standby.address).toBe(addresses[0]);
    const writable = "select not pg_is_in_recovery() as writable";
    const again = await serve(addresses);
    expect((await again.database.pool.query(writable)).rows).toEqual([{ writable: true }]);
    const writer = await startWriter(server);
    await query(
      pair.replicaUrl,
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pgquiver%'",
    );
    const { length } = writer.acknowledged;
    // The first may have been under way when its connection was closed.
    await vi.waitFor(() => expect(writer.acknowledged.length).toBeGreaterThan(length + 10), 5_000);
    expect((await database.pool.query(writable)).rows).toEqual([{ writable: true }]);
    await writer.stop();
  }, 180_000);

  test("goes on with the promoted replica when the primary has gone silent", async () => {
    const pair = await startPair();
    await using relay = await startRelay({ address: addressOf(pair.primaryUrl) });
    const { server } = await serve([relay.address, addressOf(pair.replicaUrl)]);
    const load = await failOverUnderLoad(server, pair, relay.hold);
    expect(load.ms).toBeLessThan(FAILOVER_MS);
    await expectNothingLost(pair.replicaUrl, load);
  }, 180_000);

  test("leaves a server that takes no writes any more although its connections are alive", async () => {
    const pair = await startPair();
    await query(pair.primaryUrl, "alter system reset synchronous_standby_names");
    await query(pair.primaryUrl, "select pg_reload_conf()");
    const { server, database } = await serve([addressOf(pair.primaryUrl), addressOf(pair.replicaUrl)]);
    const ports = () =>
      Promise.all(
        Array.from({ length: 5 }, async () => {
          const { rows } = await database.pool.query("select inet_server_port() as port, pg_sleep(0.2)");
          return Number(rows[0].port);
        }),
      );
    const create = async () => (await fetch(`${server.url}/v1/vector_stores`, { method: "POST" })).status;
    const [former, latter] = [pair.primaryUrl, pair.replicaUrl].map((url) => Number(new URL(url).port));
    expect(await ports()).toEqual(Array.from({ length: 5 }, () => former));
    expect(await create()).toBe(200);
    await query(pair.replicaUrl, "select pg_promote()");
    await query(pair.primaryUrl, "alter system set default_transaction_read_only = on");
    await query(pair.primaryUrl, "select pg_reload_conf()");
    await vi.waitFor(async () => expect(await create()).toBe(503), { timeout: 10_000, interval: 1 });
    expect(await create()).toBe(200);
    expect(await ports()).toEqual(Array.from({ length: 5 }, () => latter));
  }, 120_000);

  test("chooses between them by target_session_attrs", async () => {
    const { primaryUrl, replicaUrl } = await startPair();
    const [primary, replica] = [addressOf(primaryUrl), addressOf(replicaUrl)];
    const find = async (addresses: string[], attribute: string) => {
      const database = await openDatabase({
        url: `postgresql://postgres@${addresses.join(",")}/postgres${attribute}`,
        tables: quoteTables({}),
        ...TEST_LIMITS,
      });
      const sql = "select host(inet_server_addr()) || ':' || inet_server_port() as address";
      const found = await database.pool.query<{ address: string }>(sql).then(
        ({ rows }) => rows[0]?.address,
        (error: Error) => error.message,
      );
      await database.close();
      return found;
    };
    for (const [order, attribute, expected] of [
      [[primary, replica], "", primary],
      [[replica, primary], "", primary],
      [[replica, primary], "?target_session_attrs=any", replica],
      [[replica, primary], "?target_session_attrs=read-write", primary],
      [[replica, primary], "?target_session_attrs=primary", primary],
      [[primary, replica], "?target_session_attrs=read-only", replica],
      [[primary, replica], "?target_session_attrs=standby", replica],
      [["127.0.0.1:1", replica, primary], "", primary],
      [[replica], "", replica],
      [
        [replica],
        "?target_session_attrs=read-write",
        `The server at ${replica} is a standby, and target_session_attrs is read-write`,
      ],
    ] as const)
      expect(await find([...order], attribute), `${order.join()}${attribute}`).toBe(expected);
  }, 120_000);

  test("tries a server that does not answer once, not for each connection", async () => {
    await using direct = await openTestDatabase();
    let tried = 0;
    const silent = createServer((socket) => {
      tried++;
      socket.on("error", () => {}).resume();
    }).listen(0, "127.0.0.1");
    onTestFinished(() => void silent.close());
    await once(silent, "listening");
    const { host, pathname } = new URL(String(direct.url));
    const { port } = silent.address() as AddressInfo;
    const database = await openDatabase({
      url: `postgresql://postgres@127.0.0.1:${port},${host}${pathname}?connect_timeout=2`,
      tables: quoteTables({}),
      ...TEST_LIMITS,
    });
    await database.pool.query("select 1");
    const clients = await Promise.all(Array.from({ length: 5 }, () => database.pool.connect()));
    for (const client of clients) client.release();
    expect(tried).toBe(1);
    await database.close();
  });
});
