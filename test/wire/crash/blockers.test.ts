import pg from "pg";
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from "vitest";
import { diagnose, type Diagnosis } from "../../../src/diagnostics/diagnose.ts";
import { describeBlocker } from "../../../src/postgres/blockers.ts";
import { openDatabase } from "../../../src/postgres/connection/pool.ts";
import type { Database } from "../../../src/postgres/database.ts";
import { findHorizonBlockers } from "../../../src/postgres/horizon.ts";
import { applyMigrations } from "../../../src/postgres/migrations/apply.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import { quoteTables } from "../../../src/postgres/tables.ts";
import { transaction } from "../../../src/postgres/transaction.ts";
import { nativePostgres } from "../../support/databases/cluster.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { findIndex, seedStore, setPolicy, startTestWorker } from "../../support/stores/index-store.ts";
import { jsonClient } from "../../support/clients/json.ts";
import { startServer } from "../../support/servers/server.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

const PRIMARY = `blockers-${process.pid}`;
const STANDBY = `blockers-standby-${process.pid}`;
const PATIENCE = { timeout: 30_000, interval: 50 };

async function findVacuumBlockers(database: Database): Promise<Diagnosis[]> {
  const settings = { isWorking: true, thresholdBytes: 0, memoryBytes: 1e9, workers: 0 };
  const found = await diagnose(database, settings, AbortSignal.timeout(20_000));
  return found.filter(({ check }) => check === "vacuum_blockers");
}

/** The lines of a first scrape, which no cache answers. */
async function scrape(database: Database): Promise<string[]> {
  await using server = await startServer({ database, rowSecurity: "auto" });
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return text.split("\n").filter((line) => /^pgquiver_(oldest_transaction|vacuum_blocker)/.test(line));
}

test("nothing holds vacuum back in a database of its own", async () => {
  await using database = await openTestDatabase();
  if (database.kind === "embedded") expect(await findHorizonBlockers(database.pool)).toEqual([]);
  const lines = await scrape(database);
  expect(lines.filter((line) => line.startsWith("pgquiver_oldest"))).toHaveLength(1);
  if (database.kind === "embedded") {
    expect(lines).toEqual(["pgquiver_oldest_transaction_age_seconds 0"]);
    expect(await findVacuumBlockers(database)).toEqual([expect.objectContaining({ severity: "ok" })]);
  }
});

describe.runIf(inject("template").kind === "postgres")("on a server", () => {
  let url: string;
  let database: Database;

  beforeAll(async () => {
    url = await nativePostgres("start", "--name", PRIMARY);
    const client = new pg.Client(url);
    await client.connect();
    await client.query("alter system set max_prepared_transactions = 5");
    await client.query("alter system set wal_level = 'logical'");
    await client.query("alter system set autovacuum = off");
    await client.end();
    await nativePostgres("crash", "--name", PRIMARY);
    database = await openDatabase({ url, tables: quoteTables({}), ...TEST_LIMITS });
    await migrate(database);
  });

  afterAll(async () => {
    await database.close();
    await nativePostgres("stop", "--name", STANDBY);
    await nativePostgres("stop", "--name", PRIMARY);
  });

  /** A session of its own, which ends with the test. */
  async function openSession(name: string): Promise<{ client: pg.Client; pid: number }> {
    const client = new pg.Client({ connectionString: url, application_name: name });
    await client.connect();
    onTestFinished(() => client.end());
    return { client, pid: (await client.query("select pg_backend_pid() as pid")).rows[0].pid };
  }

  /** Uses up 100,000 transaction ids, in subtransactions. */
  async function useTransactionIds(): Promise<void> {
    await database.pool.query(`create table ids (n int); do $$ begin
      for n in 1 .. 100000 loop begin insert into ids values (n); exception when division_by_zero then null; end; end loop;
    end $$; drop table ids`);
  }

  test("an open transaction is named by the index that waits for it, and the index is ready after it", async () => {
    await seedStore(database, "waiting", 50);
    const report = await openSession("nightly report");
    await report.client.query("begin isolation level repeatable read; select from pg_class limit 1");
    await using server = await startServer({ database });
    startTestWorker(database);
    await setPolicy(database, "waiting", "always");
    const blockedBy = async () =>
      (await jsonClient(server.url)("GET", "/v1/vector_stores/waiting/index")).json["blocked_by"];
    await expect.poll(blockedBy, PATIENCE).toEqual([
      {
        pid: report.pid,
        name: "nightly report",
        role: "postgres",
        state: "idle in transaction",
        age_seconds: expect.any(Number),
      },
    ]);
    await report.client.query("commit");
    await expect.poll(() => findIndex(database, "waiting"), PATIENCE).toMatchObject({ index_state: "ready" });
    expect(await blockedBy()).toEqual([]);
  });

  test("an old transaction is named by the doctor and the metrics, a new one by neither", async () => {
    const { client, pid } = await openSession("psql");
    await client.query("begin isolation level repeatable read; select from pg_class limit 1");
    expect(await findHorizonBlockers(database.pool)).toEqual([
      expect.objectContaining({ kind: "transaction", pid, name: "psql", state: "idle in transaction" }),
    ]);
    expect(await findVacuumBlockers(database)).toEqual([expect.objectContaining({ severity: "ok" })]);
    const metric = /^pgquiver_oldest_transaction_age_seconds 0\.\d+$/;
    expect(await scrape(database)).toEqual([expect.stringMatching(metric)]);
    await useTransactionIds();
    expect(await findVacuumBlockers(database)).toEqual([
      {
        check: "vacuum_blockers",
        severity: "notice",
        message: expect.stringMatching(
          new RegExp(
            String.raw`^pid ${pid} \(psql of postgres, idle in transaction, for \d+ s\) holds an xmin of 100,0\d\d transactions ago: vacuum cannot remove rows deleted since, and index builds wait for it\.$`,
          ),
        ),
        remedy: `If it is not needed: select pg_terminate_backend(${pid});`,
      },
    ]);
    expect(await scrape(database)).toContainEqual(
      expect.stringMatching(
        new RegExp(
          String.raw`^pgquiver_vacuum_blocker_transactions\{blocker="pid ${pid} \(psql\)"\} 100\d\d\d$`,
        ),
      ),
    );
  });

  test("an old transaction of the service itself is not to be ended", async () => {
    const { client } = await openSession("pgquiver background");
    await client.query("begin isolation level repeatable read; select from pg_class limit 1");
    await useTransactionIds();
    expect(await findVacuumBlockers(database)).toEqual([
      expect.objectContaining({
        severity: "notice",
        message: expect.stringContaining("(pgquiver background of postgres"),
        remedy: expect.stringContaining("wait for its end"),
      }),
    ]);
  });

  test("a role that may not see other roles' sessions is told what is known, and what to grant", async () => {
    await database.pool.query("create role plain login; grant all on all tables in schema public to plain");
    const { client, pid } = await openSession("psql");
    await client.query("begin isolation level repeatable read; select from pg_class limit 1");
    const own = Object.assign(new URL(url), { username: "plain" }).href;
    const plain = await openDatabase({ url: own, tables: quoteTables({}), ...TEST_LIMITS });
    onTestFinished(() => plain.close());
    const [blocker] = await findHorizonBlockers(plain.pool);
    expect(blocker).toMatchObject({ pid, name: "psql", role: "postgres", state: null, age_seconds: null });
    expect(await findVacuumBlockers(plain)).toEqual([
      expect.objectContaining({ severity: "notice", remedy: "grant pg_read_all_stats to plain;" }),
    ]);
    // A transaction of the service's own may be open at a scrape: this role sees that one's age.
    await expect.poll(() => scrape(plain), PATIENCE).toEqual([]);
    await useTransactionIds();
    expect((await findVacuumBlockers(plain))[0]?.message).toMatch(
      `pid ${pid} (psql of postgres, state and age are visible to members of pg_read_all_stats only) holds an xmin of 100,`,
    );
  });

  test("a prepared transaction is named by the index, the doctor, the metrics and a migration", async () => {
    await seedStore(database, "prepared", 50);
    startTestWorker(database);
    await setPolicy(database, "prepared", "always");
    await expect
      .poll(() => findIndex(database, "prepared"), PATIENCE)
      .toMatchObject({ index_state: "ready" });
    const { own_table: own } = await findIndex(database, "prepared");
    const { client } = await openSession("two-phase");
    await client.query(
      `begin; update ${own} set content = 'x' where id = 'e1'; prepare transaction 'it''s held'`,
    );
    await using server = await startServer({ database });
    const send = jsonClient(server.url);
    await send("POST", "/v1/vector_stores/prepared/index/rebuild");
    await expect
      .poll(async () => (await send("GET", "/v1/vector_stores/prepared/index")).json["blocked_by"], PATIENCE)
      .toEqual([
        {
          pid: null,
          name: "it's held",
          role: "postgres",
          state: "prepared",
          age_seconds: expect.any(Number),
        },
      ]);
    const applied = transaction(database.pool, (migrating) =>
      applyMigrations(
        migrating,
        database.tables,
        [{ name: "099.sql", sql: "alter table embeddings add note text" }],
        () => {},
        { tryMs: 50, pausesMs: [10], totalMs: 100 },
      ),
    );
    await expect(applied).rejects.toThrow(
      /by .*prepared transaction it's held \(of postgres, for \d+ s\).* rollback prepared 'it''s held';/,
    );
    await useTransactionIds();
    const [finding] = await findVacuumBlockers(database);
    expect(finding).toMatchObject({
      severity: "warning",
      message: expect.stringContaining("prepared transaction it's held (of postgres"),
    });
    expect(await scrape(database)).toContainEqual(
      expect.stringMatching(
        /^pgquiver_vacuum_blocker_transactions\{blocker="prepared transaction it's held"\} 100\d\d\d$/,
      ),
    );
    await client.query(String(finding?.remedy?.slice("If it is not needed: ".length)));
    expect(await findVacuumBlockers(database)).toEqual([expect.objectContaining({ severity: "ok" })]);
    await expect.poll(() => findIndex(database, "prepared"), PATIENCE).toMatchObject({ due: false });
  });

  test("a logical slot that nobody uses is named, and the remedy drops it", async () => {
    await database.pool.query("select pg_create_logical_replication_slot('unused', 'pgoutput')");
    const [finding] = await findVacuumBlockers(database);
    expect(finding).toMatchObject({
      severity: "warning",
      message: expect.stringMatching(
        /^replication slot unused \(inactive\) holds an xmin of \d+ transactions ago: vacuum cannot clean the system catalogs since\.$/,
      ),
    });
    expect(await scrape(database)).toContainEqual(
      expect.stringMatching(
        /^pgquiver_vacuum_blocker_transactions\{blocker="replication slot unused"\} \d+$/,
      ),
    );
    await database.pool.query(String(finding?.remedy?.slice("If it is not needed: ".length)));
    expect(await findVacuumBlockers(database)).toEqual([expect.objectContaining({ severity: "ok" })]);
  });

  test("the slot of a standby that is gone is named", async () => {
    const { pool } = database;
    await pool.query("select pg_create_physical_replication_slot('standby_1')");
    const standbyUrl = await nativePostgres("replica", "--name", STANDBY, "--of", PRIMARY);
    const standby = new pg.Client(standbyUrl);
    await standby.connect();
    for (const setting of [
      "primary_slot_name = 'standby_1'",
      "hot_standby_feedback = on",
      "wal_receiver_status_interval = 1",
    ])
      await standby.query(`alter system set ${setting}`);
    await standby.query("select pg_reload_conf()");
    await standby.end();
    const hasXmin = async () =>
      (
        await pool.query(
          "select xmin is not null as held from pg_replication_slots where slot_name = 'standby_1'",
        )
      ).rows[0].held;
    await expect.poll(hasXmin, PATIENCE).toBe(true);
    // While it is in use it is close behind.
    expect(await findVacuumBlockers(database)).toEqual([expect.objectContaining({ severity: "ok" })]);
    expect((await findHorizonBlockers(pool)).map(describeBlocker)).toEqual([
      expect.stringMatching(/^replication slot standby_1 \(used by pid \d+\)$/),
    ]);
    await nativePostgres("stop", "--name", STANDBY);
    await expect
      .poll(() => findVacuumBlockers(database), PATIENCE)
      .toEqual([
        {
          check: "vacuum_blockers",
          severity: "warning",
          message: expect.stringMatching(
            /^replication slot standby_1 \(inactive\) holds an xmin of \d+ transactions ago: vacuum cannot remove rows deleted since\.$/,
          ),
          remedy: "If it is not needed: select pg_drop_replication_slot('standby_1');",
        },
      ]);
    await pool.query("select pg_drop_replication_slot('standby_1')");
  });
});
