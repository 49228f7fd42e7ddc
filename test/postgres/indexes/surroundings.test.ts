// What roles, schemas, dumps, other sessions and columns of an operator's own may do to the making of indexes.
import { afterAll, describe, expect, inject, onTestFinished, test, vi } from "vitest";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { lockShared, placementLock, tryLock } from "../../../src/postgres/advisory.ts";
import { openSession } from "../../../src/postgres/exclusive.ts";
import { openDatabase } from "../../../src/postgres/connection/pool.ts";
import { transaction } from "../../../src/postgres/transaction.ts";
import { readPlaced } from "../../../src/storage/placement.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import {
  allEmbeddings,
  countByTable,
  findIndex,
  findLeftovers,
  seedStore,
  setPolicy,
  startTestWorker,
  TEST_INDEXES,
} from "../../support/stores/index-store.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

const database = await openTestDatabase();
afterAll(() => database.close());
const { pool, tables } = database;

async function until(id: string, expected: Record<string, unknown>): Promise<void> {
  await vi.waitFor(async () => expect(await findPlan(id)).toMatchObject(expected), 60_000);
}

async function findPlan(id: string): Promise<Record<string, unknown>> {
  const { rows } = await pool.query(
    "select index_state, index_precision, phase, due, attempts, last_error, retry_at from pgquiver_indexes join vector_stores on id = vector_store_id where id = $1",
    [id],
  );
  return rows[0];
}

/** The valid vector indexes of a store's own table. */
async function findBuilt(id: string): Promise<string[]> {
  const { own_table: table } = await findIndex(database, id);
  const { indexes } = await findLeftovers(database);
  return indexes.filter((name) => name.startsWith(`${table}_hnsw_`) && !name.endsWith("(invalid)"));
}

test("rows are read again where their table was dropped meanwhile", async () => {
  await seedStore(database, "dropped", 2);
  const read = readPlaced(
    pool,
    tables,
    { id: "dropped", own_table: "embeddings_0" },
    async (client, placed) => {
      return (await client.query(`select from only ${placed.embeddings} where vector_store_id = 'dropped'`))
        .rowCount;
    },
  );
  expect(await read).toBe(2);
});

describe.runIf(inject("template").kind === "postgres")("on a server with others", () => {
  /** A session in the midst of a transaction, which ends with the test. */
  async function begin(...statements: string[]) {
    const client = await pool.connect();
    onTestFinished(async () => {
      await client.query("rollback");
      client.release();
    });
    await client.query("begin");
    for (const statement of statements) await client.query(statement);
    return client;
  }

  test("locks are the same for roles with schemas of their own", async () => {
    await pool.query("create schema elsewhere");
    const other = await begin("set local search_path = elsewhere, public");
    await lockShared(other, tables, placementLock("vs"));
    expect(await transaction(pool, (client) => tryLock(client, tables, placementLock("vs")))).toBe(false);
  });

  test("an index of the same name in another schema is not taken for the store's own", async () => {
    await pool.query(
      `create schema if not exists "${(await pool.query("select current_user as me")).rows[0].me}"`,
    );
    const { rows } = await pool.query(
      "select format('%I', current_user) as schema, nextval(pg_get_serial_sequence('pgquiver_indexes', 'number'))::int as number",
    );
    const [{ schema, number }] = rows;
    onTestFinished(async () => void (await pool.query(`drop schema ${schema} cascade`)));
    await pool.query(`create table ${schema}.decoy (n int)`);
    for (let next = number + 1; next < number + 6; next++)
      for (let index = next + 1; index < number + 8; index++)
        await pool.query(`create index embeddings_${next}_hnsw_${index} on ${schema}.decoy (n)`);
    await seedStore(database, "homonym", 10);
    await promoteStore(database, "homonym", TEST_INDEXES);
    const { own_table: table } = await findIndex(database, "homonym");
    const found = await pool.query(
      "select indisvalid from pg_index join pg_class on pg_class.oid = indexrelid where indrelid = $1::regclass and relname ~ '_hnsw_'",
      [`public.${table}`],
    );
    expect(found.rows).toEqual([{ indisvalid: true }]);
  });

  test("who may use the shared table may use a store's own", async () => {
    const role = `reader_${Date.now()}`;
    await pool.query(`create role ${role}; grant select, insert on embeddings to ${role}`);
    onTestFinished(async () => void (await pool.query(`drop owned by ${role}; drop role ${role}`)));
    await seedStore(database, "shared with others", 10);
    await promoteStore(database, "shared with others", TEST_INDEXES);
    const { own_table: table } = await findIndex(database, "shared with others");
    const { rows } = await pool.query(
      "select privilege from unnest(array['select', 'insert', 'update']) as privilege where has_table_privilege($1, $2, privilege)",
      [role, table],
    );
    expect(rows).toEqual([{ privilege: "select" }, { privilege: "insert" }]);
  });

  test("a copy that came from another server's dump is made anew", async () => {
    const id = "restored";
    await seedStore(database, id, 100);
    const writer = await begin();
    await lockShared(writer, tables, placementLock(id));
    const before = startTestWorker(database);
    await setPolicy(database, id, "always");
    await until(id, { phase: "following" });
    await before.stop();
    const { own_table: table } = (
      await pool.query("select own_table from pgquiver_indexes where vector_store_id = $1", [id])
    ).rows[0];
    // There the table had another number, and transactions had come much further.
    await pool.query(
      `update pgquiver_indexes set table_oid = 1, changed_since = (pg_current_xact_id()::text::bigint + 1000000)::text::xid8, retry_at = null
       where vector_store_id = $1`,
      [id],
    );
    await writer.query("update embeddings set content = 'changed' where vector_store_id = $1 and id = 'e1'", [
      id,
    ]);
    await writer.query("commit");
    startTestWorker(database);
    await until(id, { index_state: "ready", due: false });
    const { own_table: another } = await findIndex(database, id);
    expect(another).not.toBe(table);
    expect(await countByTable(database, id)).toEqual({ [String(another)]: 100 });
    const { rows } = await pool.query(
      `select content from ${allEmbeddings(database)} where vector_store_id = $1 and id = 'e1'`,
      [id],
    );
    expect(rows).toEqual([{ content: "changed" }]);
  });

  test("an index that is wanted again before it is dropped is there in the end", async () => {
    const id = "wanted again";
    await seedStore(database, id, 200);
    await promoteStore(database, id, TEST_INDEXES);
    const { own_table: table } = await findIndex(database, id);
    const reader = await begin(`select from ${table} limit 1`);
    const before = startTestWorker(database);
    await setPolicy(database, id, "never");
    await until(id, { index_state: "none", index_precision: null });
    await before.stop();
    await setPolicy(database, id, "always");
    await reader.query("commit");
    startTestWorker(database);
    await until(id, { index_state: "ready", due: false });
    expect(await findBuilt(id)).toHaveLength(1);
  });

  test("a store that is being written to for long holds up no other, nor the end of the service", async () => {
    await seedStore(database, "held", 10);
    await seedStore(database, "held up", 10);
    await pool.query("update vector_stores set index_policy = 'always' where id in ('held', 'held up')");
    const writer = await begin("select from vector_stores where id = 'held' for no key update");
    const worker = startTestWorker(database);
    await until("held up", { index_state: "ready", due: false });
    const sessions = async () =>
      (
        await pool.query(
          "select pid from pg_stat_activity where datname = current_database() and application_name = 'pgquiver background'",
        )
      ).rows;
    const session = await sessions();
    await pool.query("insert into pgquiver_indexes (vector_store_id) values ('held')");
    await until("held", { retry_at: expect.any(Date) });
    // A statement that waits in vain costs neither the connection nor the lock that goes with it.
    expect(await sessions()).toEqual(session);
    expect(session).toHaveLength(1);
    await worker.stop();
    expect(worker.errors).toEqual([]);
    await writer.query("commit");
    startTestWorker(database);
    await until("held", { index_state: "ready", due: false });
  });

  test("who works on the shared table makes a store wait before anything is deleted", async () => {
    const id = "vacuumed";
    await seedStore(database, id, 50);
    const vacuum = await begin("lock table only embeddings in share update exclusive mode");
    const worker = startTestWorker(database);
    await setPolicy(database, id, "always");
    await until(id, { phase: "cleaning", retry_at: expect.any(Date) });
    // The plan is free meanwhile, and the rows are where they were.
    const { rowCount } = await pool.query(
      "select from pgquiver_indexes where vector_store_id = $1 for update skip locked",
      [id],
    );
    expect(rowCount).toBe(1);
    await vacuum.query("commit");
    await until(id, { index_state: "ready", due: false });
    expect(worker.errors).toEqual([]);
  });

  test("a build that somebody cancels has failed, and is tried again later", async () => {
    const id = "cancelled";
    await seedStore(database, id, 50);
    const worker = startTestWorker(database);
    const old = await begin("set transaction isolation level repeatable read", "select from vector_stores");
    await setPolicy(database, id, "always");
    const builds =
      "from pg_stat_progress_create_index where datname = current_database() and phase like 'waiting for%'";
    await vi.waitFor(async () => expect((await pool.query(`select ${builds}`)).rowCount).toBe(1), 60_000);
    await pool.query(`select pg_cancel_backend(pid) ${builds}`);
    await until(id, { attempts: 1, last_error: "canceling statement due to user request" });
    expect(worker.errors).toHaveLength(1);
    await old.query("commit");
    await until(id, { index_state: "ready", due: false });
  });

  test("the limits of a URL are not those of work in the background", async () => {
    const limited = await openDatabase({
      url: `${database.url}?options=-c%20statement_timeout%3D5000%20-c%20lock_timeout%3D60000`,
      tables,
      ...TEST_LIMITS,
    });
    onTestFinished(() => limited.close());
    const sql =
      "select current_setting('statement_timeout') as statement, current_setting('lock_timeout') as lock";
    expect((await limited.pool.query(sql)).rows).toEqual([{ statement: "5s", lock: "1min" }]);
    await using session = openSession(limited);
    expect((await session.pool.query(sql)).rows).toEqual([{ statement: "0", lock: "2s" }]);
  });

  test("columns and checks of an operator's own are taken along, also those of the last minute", async () => {
    await pool.query(
      `alter table embeddings add check (content <> 'forbidden'),
         add column content_length int generated always as (length(content)) stored`,
    );
    const id = "of its own";
    await seedStore(database, id, 50);
    const writer = await begin();
    await lockShared(writer, tables, placementLock(id));
    const worker = startTestWorker(database);
    await setPolicy(database, id, "always");
    await until(id, { phase: "following" });
    await pool.query("alter table embeddings add column note text default 'none'");
    await writer.query("commit");
    await until(id, { index_state: "ready", due: false });
    const { own_table: table } = await findIndex(database, id);
    const { rows } = await pool.query(`select distinct note, content_length from ${table} where id = 'e1'`);
    expect(rows).toEqual([{ note: "none", content_length: 6 }]);
    expect(worker.errors).toEqual([]);
  });
});
