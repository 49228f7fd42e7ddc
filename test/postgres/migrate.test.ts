import { randomUUID } from "node:crypto";
import { appendFile, readFile, writeFile } from "node:fs/promises";
import { expect, inject, test } from "vitest";
import { findMigrations, MIGRATIONS, readMigrations } from "../../src/postgres/migrations/files.ts";
import { migrate } from "../../src/postgres/migrations/migrate.ts";
import { openDatabase } from "../../src/postgres/connection/pool.ts";
import { encodeVector } from "../../src/postgres/copy.ts";
import { quoteTables } from "../../src/postgres/tables.ts";
import { transaction } from "../../src/postgres/transaction.ts";
import { openEmptyDatabase, openTestDatabase } from "../support/databases/database.ts";
import { applyFuture, CONTRACTION, writeFuture } from "../support/databases/future-migration.ts";
import { TEST_LIMITS } from "../support/databases/template.ts";

const COUNT = (await findMigrations(MIGRATIONS)).size;

const native = inject("template").kind === "postgres";

test("makes the tables of an empty database, once", async () => {
  await using database = await openEmptyDatabase();
  expect(await migrate(database)).toEqual({ applied: COUNT });
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
    { version: 9, name: "009_writers" },
    { version: 10, name: "010_attribute_indexes" },
    { version: 11, name: "011_recall" },
    { version: 12, name: "012_projects" },
    { version: 13, name: "013_access" },
    { version: 14, name: "014_limits_and_usage" },
    { version: 15, name: "015_audit" },
    { version: 16, name: "016_erasures" },
    { version: 17, name: "017_aliases" },
    { version: 18, name: "018_file_bytes_quota" },
    { version: 19, name: "019_fair_projects" },
    { version: 20, name: "020_progress" },
    { version: 21, name: "021_file_versions" },
    { version: 22, name: "022_uploads" },
    { version: 23, name: "023_chunk_places" },
    { version: 24, name: "024_reembeddings" },
    { version: 25, name: "025_words" },
    { version: 26, name: "026_few_stores" },
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
      project_id: "default",
      rows_reserved: "0",
      bytes_reserved: "0",
      language: null,
      index_policy: "auto",
      index_state: "none",
      own_table: null,
      index_precision: null,
      ef_search: null,
      filtered_ef_search: null,
      restricts_readers: false,
      has_words: true,
    },
  ]);
});

test("several at once do the work of one", async () => {
  await using database = await openEmptyDatabase();
  const results = await Promise.all([migrate(database), migrate(database), migrate(database)]);
  expect(results.map(({ applied }) => applied).toSorted((a, b) => a - b)).toEqual([0, 0, COUNT]);
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
  expect(rows).toEqual([{ names: "store Key select v m at file_id chunk_index chunk_place" }]);
  await expect(database.pool.query('select from "Stores"')).resolves.toMatchObject({ rowCount: 0 });
});

test("installations with other table names live side by side", async () => {
  await using database = await openTestDatabase();
  const tables = quoteTables({ vectorStores: "other_stores", embeddings: "other_embeddings" });
  expect(await migrate({ ...database, tables })).toEqual({ applied: COUNT });
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

test("starts beside a newer version whose migration expands, and says so", async () => {
  await using database = await openTestDatabase();
  await applyFuture(database, '-- Expands.\nalter table :"vector_stores" add column colour text;');
  const messages: string[] = [];
  expect(await migrate(database, (message) => messages.push(message))).toEqual({ applied: 0 });
  expect(messages).toEqual([
    "A newer version has migrated the database (900_future); this version can work beside it",
  ]);
  await transaction(database.pool, (client) => client.query("insert into vector_stores (id) values ('vs')"));
});

test("refuses to start beside a newer version whose migration contracts", async () => {
  await using database = await openTestDatabase();
  await applyFuture(database);
  await expect(migrate(database)).rejects.toThrow(
    "A newer version of pgquiver has migrated the database (migration 900_future), and this version must not write its tables. Start the newer version.",
  );
});

test.for(["", "Stores"])(
  "a migration that contracts shuts out the writers of table names like %o",
  async (vectorStores) => {
    await using database = await openTestDatabase(vectorStores === "" ? undefined : { vectorStores });
    await using other = await openTestDatabase();
    await applyFuture(database);
    await expect(transaction(database.pool, async () => {})).rejects.toThrow("migration 900_future");
    await transaction(other.pool, async () => {});
  },
);

test.runIf(native)("a migration that contracts waits for the transactions that write", async () => {
  await using database = await openTestDatabase();
  const begun = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  const writing = transaction(database.pool, async (client) => {
    begun.resolve();
    await ended.promise;
    await client.query("insert into embeddings values ('vs', 'late', 'text', '[1,2,3]')");
  });
  await begun.promise;
  const migrating = applyFuture(database);
  const waiting =
    "select from pg_locks where relation = 'pgquiver_writers_1'::regclass and mode = 'AccessExclusiveLock' and not granted";
  await expect.poll(async () => (await database.pool.query(waiting)).rowCount).toBe(1);
  ended.resolve();
  await Promise.all([writing, migrating]);
  expect((await database.pool.query("select id from future_embeddings")).rows).toEqual([{ id: "late" }]);
});

test("a migration says whether it expands or contracts", async () => {
  await using database = await openTestDatabase();
  await expect(applyFuture(database, "select 1;")).rejects.toThrow(
    "The first line of the migration 900_future.sql must begin with -- Expands or -- Contracts.",
  );
  for (const text of ["-- Contracts.\nselect 1;", CONTRACTION.replace("Contracts", "Expands")])
    await expect(applyFuture(database, text)).rejects.toThrow("must rename the table writers");
});

test("a migration that expands takes nothing away that the version before needs", async () => {
  const files = await readMigrations(quoteTables({}), MIGRATIONS);
  for (const { sql, contracts, version } of files) {
    if (contracts || version <= 8) continue;
    const made = Array.from(sql.matchAll(/create table ("\w+")/g), ([, table]) => table as string);
    const statements = sql
      .replaceAll(/--.*/g, "")
      // A function takes nothing away, nor does a trigger on a table that the version before does not know.
      .replaceAll(/\$\$.*?\$\$/gs, "")
      .replaceAll(/create trigger .*? on ("\w+").*?;|create or replace function .*?;/gs, (statement, table) =>
        table === undefined || made.includes(table) ? "" : statement,
      )
      .replaceAll("returns trigger", "");
    expect(statements).not.toMatch(/\b(drop|rename|truncate|update|delete|set not null|type|trigger)\b/i);
  }
});

test("the checksums of applied files are recorded, and an edited file keeps the service from starting", async () => {
  await using database = await openTestDatabase();
  const files = await readMigrations(database.tables, MIGRATIONS);
  const { rows } = await database.pool.query("select checksum from pgquiver_migrations order by version");
  expect(rows).toEqual(files.map(({ checksum }) => ({ checksum })));
  await using edited = await writeFuture();
  await appendFile(new URL("001-to-020/003_keep_vectors_in_rows.sql", edited.url), "-- one more line\n");
  await expect(migrate(database, undefined, edited.url)).rejects.toThrow(
    /^The migration 003_keep_vectors_in_rows\.sql was edited after this database had applied it \(SHA-256 [0-9a-f]{64} then, [0-9a-f]{64} now\)/,
  );
  expect((await database.pool.query("select from pgquiver_migrations")).rowCount).toBe(files.length);
});

test("the first start with checksums records those of a database without", async () => {
  await using database = await openTestDatabase();
  const read = async () =>
    (await database.pool.query("select version, checksum from pgquiver_migrations order by 1")).rows;
  const before = await read();
  await database.pool.query("update pgquiver_migrations set checksum = null where version < 9");
  expect(await migrate(database)).toEqual({ applied: 0 });
  expect(await read()).toEqual(before);
});

test("line ends of Windows do not count as an edit", async () => {
  await using database = await openTestDatabase();
  await using future = await writeFuture();
  for (const file of (await findMigrations(future.url)).values())
    await writeFile(file, (await readFile(file, "utf8")).replaceAll("\n", "\r\n"));
  expect(await migrate(database, undefined, future.url)).toEqual({ applied: 1 });
});

test("a migration that fails leaves nothing behind and says which it was", async () => {
  await using database = await openEmptyDatabase();
  await database.pool.query("create extension if not exists vector");
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
    expect(await migrate(tenant)).toEqual({ applied: COUNT });
    expect(await migrate(tenant)).toEqual({ applied: 0 });
    expect((await tenant.pool.query("select from vector_stores")).rowCount).toBe(0);
    expect((await tenant.pool.query('select from "Tenant 1".vector_stores')).rowCount).toBe(0);
  } finally {
    await tenant.close();
  }
});
