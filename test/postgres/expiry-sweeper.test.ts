import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeEach, describe, expect, inject, onTestFinished, test, vi } from "vitest";
import { Buckets } from "../../src/files/buckets.ts";
import { promoteStore } from "../../src/indexes/worker.ts";
import { lockExclusive, lockShared, placementLock } from "../../src/postgres/advisory.ts";
import { transaction } from "../../src/postgres/transaction.ts";
import { startExpirySweeper, sweepExpired, type ExpiryLog } from "../../src/vector-stores/expiry-sweeper.ts";
import { findStore } from "../../src/storage/stores.ts";
import { abortAtUse, openTestDatabase } from "../support/databases/database.ts";
import { seedStore, TEST_INDEXES } from "../support/stores/index-store.ts";
import { never } from "../support/servers/embedder.ts";
import { BUCKET_CREDENTIALS, startSilentBucket } from "../support/servers/silent-bucket.ts";

const database = await openTestDatabase();
const { pool, tables } = database;
const buckets = new Buckets(undefined);
afterAll(() => database.close());

const GRACE_SECONDS = 3_600;
const OPTIONS = { graceSeconds: GRACE_SECONDS, auditDays: 90 };
const NO_FILES = { in_progress: 0, completed: 0, failed: 0, cancelled: 0, total: 0 };

let emptied: unknown[];
let warnings: unknown[];
const log: ExpiryLog = {
  info: (line) => void emptied.push((line as { vectorStoreId: string }).vectorStoreId),
  warn: (line) => void warnings.push(line),
};
const sweep = () => sweepExpired(database, buckets, OPTIONS, log, never);

let stores = 0;
let id: string;
beforeEach(() => {
  [emptied, warnings, id] = [[], [], `store ${(stores += 1)}`];
});

/** Makes a store of so many rows, counted, that expired so many seconds ago. */
async function makeStore(rows: number, expiredSeconds: number): Promise<void> {
  await pool.query(
    `insert into vector_stores (id, metadata, usage_bytes, embedding_count, file_counts, expires_after, last_active_at, expires_at)
     values ($1, '{"kept": "yes"}', $2 * 4, $2, jsonb_build_object('in_progress', 0, 'completed', $2::int, 'failed', 0, 'cancelled', 0, 'total', $2::int),
       '{"anchor": "last_active_at", "days": 1}', now() - interval '1 day' - $3 * interval '1 s', now() - $3 * interval '1 s')`,
    [id, rows, expiredSeconds],
  );
  await pool.query(
    `insert into embeddings (vector_store_id, id, content, embedding)
     select $1, lpad(n::text, 6, '0'), 'text', '[1,2]' from generate_series(1, $2) as n`,
    [id, rows],
  );
  await pool.query(
    "insert into pgquiver_ingests (vector_store_id, ingest_id, parameters) values ($1, 'i', '{}')",
    [id],
  );
}

/** How many rows each table has of the store. */
async function countLeft() {
  const left: Record<string, number> = {};
  for (const table of [
    tables.embeddings,
    tables.ingests,
    tables.vectorStoreFiles,
    tables.fileBatches,
    tables.indexes,
  ]) {
    const { rows } = await pool.query<{ count: number }>(
      `select count(*)::int from ${table} where vector_store_id = $1`,
      [id],
    );
    left[table.replaceAll('"', "")] = Number(rows[0]?.count);
  }
  return left;
}

const EMPTY = {
  embeddings: 0,
  pgquiver_ingests: 0,
  pgquiver_vector_store_files: 0,
  pgquiver_file_batches: 0,
  pgquiver_indexes: 0,
};

test("a store that expired longer ago than the grace loses its contents, and keeps its row", async () => {
  await makeStore(7, GRACE_SECONDS + 10);
  await pool.query(
    `insert into pgquiver_vector_store_files (vector_store_id, file_id, chunking) values ($1, 'file-1', '{}')`,
    [id],
  );
  await pool.query(
    `insert into pgquiver_file_batches (vector_store_id, id, file_ids) values ($1, 'vsfb_1', '{file-1}')`,
    [id],
  );
  await sweep();
  expect(await countLeft()).toEqual(EMPTY);
  expect(await findStore(pool, tables, id)).toMatchObject({
    expired: true,
    metadata: { kept: "yes" },
    usage_bytes: "0",
    embedding_count: "0",
    file_counts: NO_FILES,
    expires_after: { anchor: "last_active_at", days: 1 },
  });
  expect(emptied).toEqual([id]);
  await sweep();
  expect(emptied).toEqual([id]);
});

test.each([
  ["has expired within the grace", GRACE_SECONDS - 10],
  ["is active", -10],
])("a store that %s is left as it is", async (_which, expiredSeconds) => {
  await makeStore(3, expiredSeconds);
  const before = await findStore(pool, tables, id);
  await sweep();
  expect(await findStore(pool, tables, id)).toEqual(before);
  expect(await countLeft()).toMatchObject({ embeddings: 3, pgquiver_ingests: 1 });
});

test("a store without expiry is left as it is, however old", async () => {
  await makeStore(3, GRACE_SECONDS * 1000);
  await pool.query("update vector_stores set expires_after = null, expires_at = null where id = $1", [id]);
  await sweep();
  expect(await countLeft()).toMatchObject({ embeddings: 3 });
});

test("a sweep that is stopped leaves what it has not deleted, counted, to the next", async () => {
  await makeStore(12_000, GRACE_SECONDS + 10);
  const stopped = abortAtUse(pool, 3);
  await sweepExpired(database, buckets, OPTIONS, log, stopped);
  const { embeddings = 0 } = await countLeft();
  expect(embeddings).toBe(7_000);
  expect(await findStore(pool, tables, id)).toMatchObject({
    embedding_count: "7000",
    usage_bytes: "28000",
    file_counts: { completed: 7_000, total: 7_000 },
  });
  await sweep();
  expect(await countLeft()).toEqual(EMPTY);
  expect(emptied).toEqual([id]);
});

test("a store that cannot be emptied keeps no other from its turn", async () => {
  await makeStore(2, GRACE_SECONDS + 20);
  const first = id;
  id = `${first}, the next`;
  await makeStore(2, GRACE_SECONDS + 10);
  await pool.query(
    `create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$`,
  );
  await pool.query(
    `create trigger refuse before update on vector_stores for each row when (old.id = '${first}') execute function refuse()`,
  );
  await sweep();
  expect(emptied).toEqual([id]);
  expect(warnings).toMatchObject([{ removed: "stores", err: { message: "refused" } }]);
  await pool.query("drop function refuse cascade");
  await sweep();
  expect(emptied).toEqual([id, first]);
});

test("a store with a table and an index of its own loses them too", async () => {
  await seedStore(database, id, 50);
  await promoteStore(database, id, TEST_INDEXES);
  const own = (await findStore(pool, tables, id))?.own_table;
  expect(own).toMatch(/./);
  await pool.query(
    `update vector_stores set expires_after = '{"anchor": "last_active_at", "days": 1}', expires_at = now() - interval '2 hours' where id = $1`,
    [id],
  );
  await sweep();
  expect(await countLeft()).toEqual(EMPTY);
  expect((await pool.query("select to_regclass($1) as found", [own])).rows).toEqual([{ found: null }]);
  expect(await findStore(pool, tables, id)).toMatchObject({
    own_table: null,
    index_state: "none",
    embedding_count: "0",
  });
});

test("a file that has expired is deleted with its bytes, and removed from its stores", async () => {
  await makeStore(0, -1_000);
  const later = ["expired", "not yet"];
  for (const [index, file] of later.entries()) {
    await pool.query(
      `insert into pgquiver_files (id, filename, purpose, bytes, state, created_at, expires_at)
       values ($1, 'a.txt', 'assistants', 3, 'ready', now(), now() + ($2 - 0.5) * interval '1 hour')`,
      [file, index],
    );
    await pool.query("insert into pgquiver_file_parts (file_id, part, data) values ($1, 0, 'abc')", [file]);
    await pool.query(
      `insert into pgquiver_vector_store_files (vector_store_id, file_id, chunking, status, chunk_count) values ($1, $2, '{}', 'completed', 1)`,
      [id, file],
    );
    await pool.query(
      `insert into embeddings (vector_store_id, id, content, embedding, file_id, chunk_index) values ($1, $2, 'text', '[1,2]', $3, 0)`,
      [id, `${file}_0`, file],
    );
  }
  await pool.query(
    `update vector_stores set usage_bytes = 8, embedding_count = 2, file_counts = file_counts || '{"completed": 2, "total": 2}' where id = $1`,
    [id],
  );
  await sweep();
  for (const [table, column] of [
    ["pgquiver_files", "id"],
    ["pgquiver_file_parts", "file_id"],
    ["pgquiver_vector_store_files", "file_id"],
    ["embeddings", "file_id"],
  ]) {
    const { rows } = await pool.query(`select ${column} as file from ${table} where ${column} = any($1)`, [
      later,
    ]);
    expect([table, rows]).toEqual([table, [{ file: "not yet" }]]);
  }
  expect(await findStore(pool, tables, id)).toMatchObject({
    usage_bytes: "4",
    embedding_count: "1",
    file_counts: { completed: 1, total: 1 },
  });
  expect(warnings).toEqual([]);
});

describe.runIf(inject("template").kind === "postgres")("with others at work", () => {
  test("a store that is being written to is left alone until the writer has ended", async () => {
    await makeStore(3, GRACE_SECONDS + 10);
    await transaction(pool, async (client) => {
      await lockShared(client, tables, placementLock(id));
      await sweep();
      expect(await countLeft()).toMatchObject({ embeddings: 3, pgquiver_ingests: 1 });
    });
    await sweep();
    expect(await countLeft()).toEqual(EMPTY);
  });

  test("a store that becomes active between the look and the lock keeps everything", async () => {
    await makeStore(3, GRACE_SECONDS + 20);
    await pool.query(
      `insert into pgquiver_vector_store_files (vector_store_id, file_id, chunking) values ($1, 'file-1', '{}')`,
      [id],
    );
    const first = id;
    id = `${first}, active again`;
    await makeStore(3, GRACE_SECONDS + 10);
    let swept: Promise<void> | undefined;
    await transaction(pool, async (client) => {
      // Makes the sweep wait at the first store, when it has seen both.
      await client.query("select from pgquiver_vector_store_files where vector_store_id = $1 for update", [
        first,
      ]);
      swept = sweep();
      const waiting =
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
      while ((await pool.query(waiting)).rowCount === 0) await delay(10);
      await pool.query("update vector_stores set expires_at = now() + interval '1 day' where id = $1", [id]);
    });
    await swept;
    expect(emptied).toEqual([first]);
    expect(await countLeft()).toMatchObject({ embeddings: 3, pgquiver_ingests: 1 });
    expect(await findStore(pool, tables, id)).toMatchObject({ expired: false, embedding_count: "3" });
  });

  test("one process at a time sweeps", async () => {
    await makeStore(3, GRACE_SECONDS + 10);
    await transaction(pool, async (client) => {
      await lockExclusive(client, tables, "pgquiver expiry");
      await sweep();
    });
    expect(await countLeft()).toMatchObject({ embeddings: 3 });
    // Each gives way to another that is at it, and may leave the rest to the next look.
    await Promise.all([sweep(), sweep(), sweep()]);
    await sweep();
    expect(await countLeft()).toEqual(EMPTY);
    expect(emptied).toEqual([id]);
  });
});

test("ingests nobody came back to for 30 days are forgotten", async () => {
  await makeStore(1, -1000);
  await pool.query(
    `insert into pgquiver_ingests (vector_store_id, ingest_id, parameters, updated_at)
     values ($1, 'old', '{}', now() - interval '31 days'), ($1, 'recent', '{}', now() - interval '29 days')`,
    [id],
  );
  await sweep();
  const { rows } = await pool.query(
    "select ingest_id from pgquiver_ingests where vector_store_id = $1 order by 1",
    [id],
  );
  expect(rows.map((row) => row.ingest_id)).toEqual(["i", "recent"]);
});

test("the sweeper stops at once, though a bucket does not answer", async () => {
  for (const [name, value] of Object.entries(BUCKET_CREDENTIALS)) vi.stubEnv(name, value);
  const silent = await startSilentBucket();
  const patient = new Buckets(undefined, { answerMs: 600_000, removeMs: 600_000 });
  onTestFinished(async () => {
    vi.unstubAllEnvs();
    await patient.close();
    await silent[Symbol.asyncDispose]();
  });
  await pool.query(
    `insert into pgquiver_files (id, state, created_at, updated_at, object_url)
     values ('in a bucket', 'deleted', now(), now() - interval '2 minutes', $1)`,
    [silent.url],
  );
  const sweeper = startExpirySweeper(database, patient, { sweepSeconds: 0.05, ...OPTIONS }, log);
  await silent.received(1);
  await sweeper.stop();
  expect((await pool.query("select state from pgquiver_files where id = 'in a bucket'")).rows).toEqual([
    { state: "deleted" },
  ]);
  expect(warnings).toEqual([]);
});

test("the sweeper looks again and again, survives a failure, and stops at once", async () => {
  const sweeper = startExpirySweeper(database, buckets, { sweepSeconds: 0.05, ...OPTIONS }, log);
  onTestFinished(() => sweeper.stop());
  await pool.query("alter table pgquiver_ingests rename to hidden");
  while (warnings.length === 0) await delay(20);
  await pool.query("alter table hidden rename to pgquiver_ingests");
  // Whole before it has expired: what is swept half made keeps the rest.
  await makeStore(2, -1_000);
  await pool.query("update vector_stores set expires_at = now() - interval '2 hours' where id = $1", [id]);
  while (emptied.length === 0) await delay(20);
  await sweeper.stop();
  expect(await countLeft()).toEqual(EMPTY);
});

test("entries of the audit log are deleted when they are older than the retention, in batches", async () => {
  await pool.query(
    `insert into pgquiver_audit_log
     select 'audit_' || age || '_' || number, now() - age * interval '1 day', '', 'e', null, null, '{}', 'ok', 1, '',
       null, null, '', '', '' from unnest(array[89, 91]) as age, generate_series(1, 6000) as number`,
  );
  await sweep();
  const { rows } = await pool.query("select count(*)::int, min(id) from pgquiver_audit_log");
  expect(rows).toEqual([{ count: 6_000, min: "audit_89_1" }]);
  expect(warnings).toEqual([]);
});
