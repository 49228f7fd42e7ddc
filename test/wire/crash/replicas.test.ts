import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test, vi } from "vitest";
import type { Database } from "../../../src/postgres/database.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import { openDatabase } from "../../../src/postgres/connection/pool.ts";
import { openReplicas } from "../../../src/postgres/replicas/replicas.ts";
import { quoteTables } from "../../../src/postgres/tables.ts";
import { nativePostgres } from "../../support/databases/cluster.ts";
import { jsonClient } from "../../support/clients/json.ts";
import { startRelay } from "../../support/servers/relay.ts";
import { startServer } from "../../support/servers/server.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

const PRIMARY = `primary-${process.pid}`;
const REPLICA = `replica-${process.pid}`;

/** Short, so that a replica which stands still is noticed soon. */
const LAG_MAX_MS = 1_000;

describe.runIf(inject("template").kind === "postgres")("with a replica", () => {
  let primaryUrl: string;
  let replicaUrl: string;

  beforeAll(async () => {
    primaryUrl = await nativePostgres("start", "--name", PRIMARY);
    replicaUrl = await nativePostgres("replica", "--name", REPLICA, "--of", PRIMARY);
  });

  afterAll(async () => {
    await nativePostgres("stop", "--name", REPLICA);
    await nativePostgres("stop", "--name", PRIMARY);
  });

  /** The service on the primary and its replica, once that is fit for use. */
  async function serve(urls: readonly string[] = [replicaUrl], lagMaxMs = LAG_MAX_MS) {
    const tables = quoteTables({});
    const primary = await openDatabase({ url: primaryUrl, tables, ...TEST_LIMITS });
    await migrate(primary);
    const replicas = await openReplicas(primary, { tables, urls, lagMaxMs, ...TEST_LIMITS });
    const database: Database = { ...primary, replicas };
    const server = await startServer({ database, indexes: { isWorking: true, thresholdBytes: 0 } });
    onTestFinished(async () => {
      await server[Symbol.asyncDispose]();
      await replicas.close();
      await primary.close();
    });
    const send = jsonClient(server.url);
    const makeStore = async (contents: readonly string[]) => {
      const { json } = await send("POST", "/v1/vector_stores");
      const path = `/v1/vector_stores/${String(json["id"])}`;
      for (const content of contents)
        await send("POST", `${path}/embeddings`, { content, embedding: [1, 0] });
      return { id: String(json["id"]), path };
    };
    /** The contents found, or the status when that is not 200. */
    const search = async (path: string) => {
      const { status, json } = await send("POST", `${path}/search`, {
        embedding: [1, 0],
        max_num_results: 50,
      });
      const hits = json["data"] as { content: { text: string }[] }[] | undefined;
      return status === 200 ? hits?.map(({ content }) => content[0]?.text).toSorted() : status;
    };
    const settle = (problem: unknown) =>
      vi.waitFor(
        async () => {
          await replicas.check();
          expect(replicas.states()[0]?.problem).toEqual(problem);
        },
        { timeout: 60_000, interval: 50 },
      );
    await settle(undefined);
    return { server, replicas, primary, send, makeStore, search, settle };
  }

  /**
   * Whether the replica executed a search meanwhile: each connection shows its last statement, which was neither that of
   * a check nor the question for the store's version.
   */
  async function isAsked(run: () => Promise<unknown>): Promise<boolean> {
    const { rows: before } = await onReplica("select clock_timestamp() as at");
    await run();
    const { rows } = await onReplica(
      `select from pg_stat_activity where application_name = 'pgquiver' and query_start > $1
       and not query like any (array['%pg_last_wal_replay_lsn%', '%row_changes%'])`,
      [before[0]?.at],
    );
    return rows.length > 0;
  }

  async function onReplica(statement: string, values: unknown[] = []) {
    const client = new pg.Client(replicaUrl);
    await client.connect();
    try {
      return await client.query(statement, values);
    } finally {
      await client.end();
    }
  }

  /** Waits until the replica has all that the primary has at this moment. */
  async function catchUp({ pool }: Pick<Database, "pool">): Promise<void> {
    const { rows } = await pool.query("select pg_current_wal_lsn()::text as position");
    await vi.waitFor(async () => {
      const replayed = await onReplica("select pg_last_wal_replay_lsn() >= $1::pg_lsn as done", [
        rows[0].position,
      ]);
      expect(replayed.rows[0].done).toBe(true);
    }, 60_000);
  }

  async function pauseReplay(): Promise<void> {
    await onReplica("select pg_wal_replay_pause()");
    await vi.waitFor(async () => {
      const { rows } = await onReplica("select pg_get_wal_replay_pause_state() as state");
      expect(rows[0].state).toBe("paused");
    }, 60_000);
    onTestFinished(async () => void (await onReplica("select pg_wal_replay_resume()")));
  }

  test("searches run there, and find what they find on the primary", async () => {
    const { makeStore, search, primary, server } = await serve();
    const { path } = await makeStore(["a", "b"]);
    await catchUp(primary);
    expect(await isAsked(async () => expect(await search(path)).toEqual(["a", "b"]))).toBe(true);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(metrics).toContain('pgquiver_replicas{state="used"} 1');
  });

  test("every write is found by the next search, however far the replica is behind", async () => {
    const { makeStore, search, send, settle, primary } = await serve([replicaUrl], 60_000);
    const { path } = await makeStore(["a"]);
    await catchUp(primary);
    await pauseReplay();
    await send("POST", `${path}/embeddings`, { content: "b", embedding: [1, 0] });
    await settle(undefined);
    expect(await search(path)).toEqual(["a", "b"]);
    const { json } = await send("GET", `${path}/embeddings`);
    const [{ id }] = json["data"] as [{ id: string }];
    await send("DELETE", `${path}/embeddings/${id}`);
    expect(await search(path)).toHaveLength(1);
    await send("DELETE", path);
    expect(await search(path)).toBe(404);
  });

  test("a store that nobody writes to is searched there even when the replica is behind", async () => {
    const { makeStore, search, settle, primary } = await serve([replicaUrl], 60_000);
    const [still, busy] = [await makeStore(["a"]), await makeStore(["b"])];
    await catchUp(primary);
    await pauseReplay();
    await primary.pool.query("update vector_stores set name = 'busy' where id = $1", [busy.id]);
    await settle(undefined);
    expect(await isAsked(async () => expect(await search(still.path)).toEqual(["a"]))).toBe(true);
  });

  test("a store is found while the replica has not heard of the role that calls run under", async () => {
    const first = await serve();
    const store = await first.makeStore(["one"]);
    await first.server.stop(0);
    const { rows } = await first.primary.pool.query<{ role: string }>(
      "select rolname as role from pg_roles where rolname like '%\\_calls'",
    );
    for (const { role } of rows) {
      const name = pg.escapeIdentifier(role);
      await first.primary.pool.query(`drop owned by ${name}; drop role ${name}`);
    }
    await catchUp(first.primary);
    await pauseReplay();
    const { search } = await serve([replicaUrl], 60_000);
    const { rows: made } = await onReplica("select from pg_roles where rolname like '%\\_calls'");
    expect(made).toEqual([]);
    expect(await search(store.path)).toEqual(["one"]);
  });

  test("a store whose expiry was put off is found, even when the replica has not heard of it", async () => {
    const { makeStore, search, settle, primary } = await serve([replicaUrl], 60_000);
    const { id, path } = await makeStore(["a"]);
    const expireIn = (interval: string) =>
      primary.pool.query(
        `update vector_stores set expires_at = now() + interval '${interval}' where id = $1`,
        [id],
      );
    await expireIn("1 second");
    await catchUp(primary);
    await pauseReplay();
    await expireIn("1 day");
    await delay(1_050);
    await settle(undefined);
    expect(await search(path)).toEqual(["a"]);
  });

  test("one that is too far behind is not asked, until it has caught up", async () => {
    const { makeStore, search, settle, primary } = await serve();
    const { path } = await makeStore(["a"]);
    await catchUp(primary);
    await pauseReplay();
    await primary.pool.query("select pg_switch_wal()");
    await settle(expect.stringMatching(/^is \d+\.\d s behind$/));
    expect(await isAsked(async () => expect(await search(path)).toEqual(["a"]))).toBe(false);
    await onReplica("select pg_wal_replay_resume()");
    await settle(undefined);
    expect(await isAsked(() => search(path))).toBe(true);
  });

  test("no search fails while the replica is stopped and started again, and then it is asked again", async () => {
    const { makeStore, search, settle, primary } = await serve();
    const { path } = await makeStore(["a", "b", "c"]);
    await catchUp(primary);
    let isDone = false;
    let searches = 0;
    const load = Array.from({ length: 4 }, async () => {
      for (; !isDone; searches++) expect(await search(path)).toEqual(["a", "b", "c"]);
    });
    const outage = async () => {
      for (const mode of ["stop", "crash"]) {
        const before = searches;
        if (mode === "crash") await nativePostgres("crash", "--name", REPLICA);
        else {
          await nativePostgres("stop", "--keep", "--name", REPLICA);
          await settle(expect.stringContaining("ECONNREFUSED"));
          await delay(200);
          expect(await nativePostgres("start", "--keep", "--name", REPLICA)).toBe(replicaUrl);
        }
        await settle(undefined);
        expect(searches).toBeGreaterThan(before);
      }
      expect(await isAsked(() => search(path))).toBe(true);
    };
    await outage().finally(() => (isDone = true));
    await Promise.all(load);
  });

  test("a search whose statement the replica ends runs on the primary", async () => {
    const { makeStore, search, primary, replicas } = await serve();
    const { path } = await makeStore(["a"]);
    await catchUp(primary);
    const ended: unknown[] = [];
    replicas.watch((state) => ended.push(state.problem));
    await search(path);
    // Idle connections are closed by the pool as soon as it notices; these statements meet the fault themselves.
    const fault = replicas
      .choose()
      ?.run(
        ({ pool }) => pool.query("select pg_terminate_backend(pg_backend_pid())"),
        new AbortController().signal,
      );
    expect(await fault).toBeUndefined();
    expect(replicas.states()[0]?.problem).toMatch(/^failed: /);
    expect(await search(path)).toEqual(["a"]);
    await replicas.check();
    expect(ended.slice(-2)).toEqual([expect.stringMatching(/^failed: /), undefined]);
  });

  test("an error that the primary would give as well is passed on", async () => {
    const { replicas } = await serve();
    const { signal } = new AbortController();
    const run = (statement: string) => replicas.choose()?.run(({ pool }) => pool.query(statement), signal);
    await expect(run("select 1/0")).rejects.toThrow("division by zero");
    expect(await run("create table t ()")).toBeUndefined();
    expect(await run("select * from not_there_yet")).toBeUndefined();
    const forbid = "do $$ begin raise insufficient_privilege; end $$";
    expect(await run(forbid)).toBeUndefined();
    expect(replicas.states()[0]?.problem).toBeUndefined();
  });

  test("a store that gets a table and an index of its own is searched rightly all the way", async () => {
    const { makeStore, search, primary, send } = await serve();
    const contents = ["a", "b", "c"];
    const { path } = await makeStore(contents);
    await catchUp(primary);
    await send("POST", `${path}/index`, { policy: "always" });
    await vi.waitFor(
      async () => {
        for (let repeat = 0; repeat < 20; repeat++) expect(await search(path)).toEqual(contents);
        expect((await send("GET", `${path}/index`)).json).toMatchObject({ state: "ready" });
      },
      { timeout: 60_000, interval: 10 },
    );
    await catchUp(primary);
    expect(await isAsked(async () => expect(await search(path)).toEqual(contents))).toBe(true);
  });

  test("the one with the fewest searches in flight is asked, each in turn", async () => {
    const { replicas } = await serve([replicaUrl, replicaUrl]);
    await vi.waitFor(
      () => expect(replicas.states().map(({ problem }) => problem)).toEqual([undefined, undefined]),
      60_000,
    );
    const { signal } = new AbortController();
    const { promise: until, resolve: finish } = Promise.withResolvers<void>();
    const runs = [1, 2, 3, 4].map(async () => replicas.choose()?.run(() => until, signal));
    expect(replicas.states().map(({ inFlight }) => inFlight)).toEqual([2, 2]);
    finish();
    await Promise.all(runs);
    expect(replicas.states().map(({ inFlight }) => inFlight)).toEqual([0, 0]);
  });

  test("what is no replica, or is away, is not asked, and said to be so", async () => {
    const { replicas, search, makeStore } = await serve([
      replicaUrl,
      primaryUrl,
      "postgresql://ada:secret@127.0.0.1:1/away",
    ]);
    await replicas.check();
    const told: unknown[] = [];
    replicas.watch((state) => told.push(state));
    const [, promoted, away] = replicas.states();
    expect(promoted?.problem).toMatch(/^is not a replica/);
    expect(away?.problem).toMatch(/^cannot be reached: .*ECONNREFUSED/);
    expect(told).toEqual(replicas.states());
    expect(JSON.stringify(told)).not.toContain("secret");
    const { path } = await makeStore(["a"]);
    expect(await search(path)).toEqual(["a"]);
  });

  test("one that reads the standbys of a cluster's workers is not asked, and said to be so", async () => {
    const setting = "options=-c%20citus.use_secondary_nodes%3Dalways";
    const { replicas, search, makeStore } = await serve([replicaUrl, `${replicaUrl}?${setting}`]);
    await replicas.check();
    expect(replicas.states()[1]?.problem).toContain("citus.use_secondary_nodes");
    const { path } = await makeStore(["a"]);
    expect(await search(path)).toEqual(["a"]);
  });

  test("one that falls silent holds up no search for longer than a check", async () => {
    const { hostname, port } = new URL(replicaUrl);
    await using relay = await startRelay({ address: `${hostname}:${port}` });
    const { makeStore, search, primary, replicas } = await serve([
      replicaUrl.replace(/127.*:\d+/, relay.address),
    ]);
    const { path } = await makeStore(["a"]);
    await catchUp(primary);
    expect(await isAsked(() => search(path))).toBe(true);
    relay.hold();
    // The first runs into it.
    expect(await Promise.all([search(path), search(path)])).toEqual([["a"], ["a"]]);
    expect(replicas.states()[0]).toMatchObject({
      problem: expect.stringContaining("cannot be reached"),
      inFlight: 0,
    });
    expect(await search(path)).toEqual(["a"]);
  });
});
