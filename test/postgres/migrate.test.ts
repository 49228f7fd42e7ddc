import { randomUUID } from "node:crypto";
import { expect, inject, test } from "vitest";
import { migrate } from "../../src/postgres/migrations/migrate.ts";
import { openDatabase } from "../../src/postgres/connection/pool.ts";
import { encodeVector } from "../../src/postgres/copy.ts";
import { quoteTables } from "../../src/postgres/tables.ts";
import { openEmptyDatabase, openTestDatabase } from "../support/database.ts";
import { TEST_LIMITS } from "../support/template.ts";

/** How many files there are in src/postgres/migrations. */
const MIGRATIONS = 8;

const native = inject("template").kind === "postgres";

test("makes the tables of an empty database, once", async () => {
  await using database = await openEmptyDatabase();
  expect(await migrate(database)).toEqual({ applied: MIGRATIONS });
  expect(await migrate(database)).toEqual({ applied: 0 });
  const { rows } = await database.pool.query(
    "select version, name from pgquiver_migrations order by version",
  );
  expect(rows).toEqual([
    { version: 1, name: "001_tables" },
    { version: 2, name: "002_adopt_litellm_pgvector" },
    { version: 3, name: "003_keep_vectors_in_rows" },
    { version: 4, name: "004_ingests" },
    { version: 5, name: "005_indexes" },
    { version: 6, name: "006_files" },
    { version: 7, name: "007_vector_store_files" },
    { version: 8, name: "008_fair_file_queue" },
  ]);
  await database.pool.query("insert into vector_stores (id) values ('vs_1')");
  const { rows: stores } = await database.pool.query("select * from vector_stores");
  expect(stores).toEqual([
    {
      id: "vs_1",
      name: null,
      description: null,
      metadata: null,
      status: "completed",
      usage_bytes: "0",
      file_counts: { in_progress: 0, completed: 0, failed: 0, cancelled: 0, total: 0 },
      created_at: expect.any(Date),
      expires_after: null,
      expires_at: null,
      last_active_at: null,
      dimensions: null,
      embedding_model: null,
      embedding_count: "0",
      row_changes: "0",
      precision: null,
      language: null,
      index_policy: "auto",
      index_state: "none",
      own_table: null,
      index_precision: null,
    },
  ]);
});

test("several at once do the work of one", async () => {
  await using database = await openEmptyDatabase();
  const results = await Promise.all([migrate(database), migrate(database), migrate(database)]);
  expect(results.map(({ applied }) => applied).toSorted((a, b) => a - b)).toEqual([0, 0, MIGRATIONS]);
});

test("uses the names it is given", async () => {
  const fields = {
    id: "Key",
    vectorStoreId: "store",
    content: "select",
    embedding: "v",
    metadata: "m",
    createdAt: "at",
  };
  await using database = await openTestDatabase({ vectorStores: "Stores", embeddings: "user", fields });
  const { rows } = await database.pool.query(
    "select string_agg(attname, ' ' order by attnum) as names from pg_attribute where attrelid = $1::regclass and attnum > 0",
    ['"user"'],
  );
  expect(rows).toEqual([{ names: "store Key select v m at file_id chunk_index" }]);
  await expect(database.pool.query('select from "Stores"')).resolves.toMatchObject({ rowCount: 0 });
});

test("installations with other table names live side by side", async () => {
  await using database = await openTestDatabase();
  const tables = quoteTables({ vectorStores: "other_stores", embeddings: "other_embeddings" });
  expect(await migrate({ ...database, tables })).toEqual({ applied: MIGRATIONS });
  await expect(database.pool.query("select from other_embeddings")).resolves.toMatchObject({ rowCount: 0 });
});

test("one table holds vectors of 1 to 16,000 dimensions, full and sparse, and they can be searched", async () => {
  await using database = await openTestDatabase();
  const { pool } = database;
  for (const dimensions of [1, 1_536, 2_000, 3_072, 16_000]) {
    const store = `vs_${dimensions}`;
    const full = Float32Array.from({ length: dimensions }, (_, i) => Math.sin(i * dimensions + 1));
    const sparse = Float32Array.from({ length: dimensions }, (_, i) => (i === 0 ? -1 : 0));
    for (const [id, vector] of Object.entries({ full, sparse })) {
      await pool.query(
        "insert into embeddings (vector_store_id, id, content, embedding) values ($1, $2, $3, $4::vector)",
        [store, id, "text ".repeat(1_000), encodeVector(vector)],
      );
    }
    const { rows } = await pool.query(
      `select id, vector_dims(embedding) as dimensions from embeddings where vector_store_id = $1
       order by embedding <=> $2::vector`,
      [store, encodeVector(full)],
    );
    expect(rows).toEqual([
      { id: "full", dimensions },
      { id: "sparse", dimensions },
    ]);
  }
});

test("a vector that fits a page stays in its row", async () => {
  await using database = await openTestDatabase();
  const { pool } = database;
  const vector = Float32Array.from({ length: 1_536 }, (_, i) => Math.sin(i));
  await pool.query(
    `insert into embeddings (vector_store_id, id, content, embedding)
     select 'vs_1', i::text, (select string_agg(md5((i * j)::text), ' ') from generate_series(1, 100) as j), $1::vector
     from generate_series(1, 20) as i`,
    [encodeVector(vector)],
  );
  const { rows } = await pool.query("select pg_relation_size('embeddings') / 8192 as pages");
  expect(rows).toEqual([{ pages: "20" }]);
});

test("refuses a database that a newer version has migrated", async () => {
  await using database = await openTestDatabase();
  await database.pool.query("insert into pgquiver_migrations (version, name) values (99, '099_future')");
  await expect(migrate(database)).rejects.toThrow("migration 99");
});

test("a migration that fails leaves nothing behind and says which it was", async () => {
  await using database = await openEmptyDatabase();
  await database.pool.query("create extension vector");
  await database.pool.query("create table embeddings (something_else text)");
  await expect(migrate(database)).rejects.toThrow(
    /Migration 002_adopt_litellm_pgvector.sql failed.* column "vector_store_id"/,
  );
  const { rows } = await database.pool.query("select to_regclass('vector_stores') as stores");
  expect(rows).toEqual([{ stores: null }]);
});

test.runIf(native)(
  "a role without rights is told what an administrator must run, and needs none after that",
  async () => {
    await using database = await openEmptyDatabase();
    const role = `pgquiver_test_${randomUUID().slice(0, 8)}`;
    const url = Object.assign(new URL(database.url ?? ""), { username: role, password: "" }).href;
    await database.pool.query(`create role ${role} login`);
    const restricted = await openDatabase({ url, tables: database.tables, ...TEST_LIMITS });
    try {
      await expect(migrate(restricted)).rejects.toThrow("create extension vector;");
      await database.pool.query("create extension vector");
      await expect(migrate(restricted)).rejects.toThrow(`grant create on schema public to ${role};`);
      await database.pool.query(`grant create on schema public to ${role}`);
      await database.pool.query("create table embeddings ()");
      await expect(migrate(restricted)).rejects.toThrow(`alter table embeddings owner to ${role};`);
      await database.pool.query("drop table embeddings");
      await migrate(database);
      await database.pool.query(`revoke create on schema public from ${role}`);
      await database.pool.query(
        `grant select, insert, update, delete on all tables in schema public to ${role}`,
      );
      expect(await migrate(restricted)).toEqual({ applied: 0 });
    } finally {
      await restricted.close();
      await database.pool.query(`drop owned by ${role}`);
      await database.pool.query(`drop role ${role}`);
    }
  },
);

test.runIf(native)("works in the schema that the URL names and makes it where it is missing", async () => {
  await using database = await openTestDatabase();
  await database.pool.query("insert into vector_stores (id) values ('of public')");
  const url = `${database.url}?schema=Tenant%201`;
  const tenant = await openDatabase({ url, tables: database.tables, ...TEST_LIMITS });
  try {
    expect(await migrate(tenant)).toEqual({ applied: MIGRATIONS });
    expect(await migrate(tenant)).toEqual({ applied: 0 });
    expect((await tenant.pool.query("select from vector_stores")).rowCount).toBe(0);
    expect((await tenant.pool.query('select from "Tenant 1".vector_stores')).rowCount).toBe(0);
  } finally {
    await tenant.close();
  }
});
