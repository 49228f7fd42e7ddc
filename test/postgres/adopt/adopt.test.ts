import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import type { TableNames } from "../../../src/postgres/tables.ts";
import { openEmptyDatabase, openTestDatabase, type TestDatabase } from "../../support/databases/database.ts";

const RENAMED = {
  id: "chunkid",
  vectorStoreId: "store",
  content: "body",
  embedding: "vec",
  metadata: "attributes",
  createdAt: "added",
};

/** The tables as `prisma db push` makes them of litellm-pgvector's schema, with rows as its main.py inserts them. */
async function createLitellmTables(database: TestDatabase): Promise<void> {
  const { pool, tables } = database;
  await pool.query("create extension vector");
  await pool.query(`
    create table "vector_stores" (
      "id" text not null, "name" text not null, "file_counts" jsonb, "status" text not null default 'completed',
      "usage_bytes" integer default 0, "created_at" timestamp(3) not null default current_timestamp,
      "expires_after" jsonb, "expires_at" timestamp(3), "last_active_at" timestamp(3), "metadata" jsonb,
      constraint "vector_stores_pkey" primary key ("id"));
    create table "embeddings" (
      ${tables.id} text not null, ${tables.vectorStoreId} text not null, ${tables.content} text not null,
      ${tables.embedding} vector(1536) not null, ${tables.metadata} jsonb,
      ${tables.createdAt} timestamp(3) not null default current_timestamp,
      constraint "embeddings_pkey" primary key (${tables.id}));
    alter table "embeddings" add constraint "embeddings_vector_store_id_fkey" foreign key (${tables.vectorStoreId})
      references "vector_stores" ("id") on delete cascade on update cascade;
    insert into vector_stores (id, name, file_counts, status, usage_bytes, expires_after, expires_at, last_active_at, metadata, created_at)
    values
      ('5d0f6f0e-0001', 'Books', '{"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0}', 'completed', 0,
       '{"anchor": "last_active_at", "days": 7}', '2025-07-08 10:00', '2025-07-01 10:00', '{"team": "a"}', '2025-07-01 10:00:00.123'),
      ('5d0f6f0e-0002', 'Empty', null, 'completed', null, '{"anchor": "created_at", "days": "a week"}', null, null, null, '2025-07-02 10:00');
    insert into embeddings (${tables.id}, ${tables.vectorStoreId}, ${tables.content}, ${tables.embedding}, ${tables.metadata}, ${tables.createdAt})
    select 'e-' || i, '5d0f6f0e-0001', 'Überschrift ' || i,
      (select array_agg(sin(i * 2000 + j)::real) from generate_series(1, 1536) as j)::vector,
      case when i % 2 = 0 then jsonb_build_object('page', i) end, '2025-07-01 12:00'::timestamp + i * interval '1 ms'
    from generate_series(1, 30) as i;
    create index own_hnsw on embeddings using hnsw (${tables.embedding} vector_cosine_ops);
    create index own_ivfflat on embeddings using ivfflat (${tables.embedding} vector_l2_ops) with (lists = 2);
    create index own_expression on embeddings using hnsw ((${tables.embedding}::halfvec(1536)) halfvec_cosine_ops);
    create index own_metadata on embeddings using gin (${tables.metadata});
  `);
}

/** Everything in the embeddings table, with the file that holds it. */
async function readEmbeddings({ pool, tables }: TestDatabase) {
  const { rows } = await pool.query(
    `select ${tables.id} as id, ${tables.vectorStoreId} as store, ${tables.content} as content,
       ${tables.metadata} as metadata, md5(${tables.embedding}::text) as vector,
       to_char(${tables.createdAt}, 'YYYY-MM-DD HH24:MI:SS.US') as created_at
     from embeddings order by 1`,
  );
  const { rows: files } = await pool.query("select pg_relation_filenode('embeddings') as embeddings");
  return { rows, file: files[0].embeddings };
}

describe.each([
  ["its own columns", {}],
  ["renamed columns", { fields: RENAMED }],
])("a database of litellm-pgvector with %s", (_title, names: TableNames) => {
  let database: TestDatabase;
  let before: Awaited<ReturnType<typeof readEmbeddings>>;

  beforeAll(async () => {
    database = await openEmptyDatabase(names);
    await createLitellmTables(database);
    before = await readEmbeddings(database);
    // Prisma stored UTC, whatever the session thinks. Statements one after the other share a connection.
    await database.pool.query("set timezone = 'America/New_York'");
    await migrate(database);
    await database.pool.query("set timezone = 'UTC'");
  });

  afterAll(async () => {
    await database.close();
  });

  test("keeps every embedding, in the file where it was", async () => {
    const after = await readEmbeddings(database);
    expect(after.rows).toHaveLength(30);
    expect(after).toEqual(before);
  });

  test("keeps the stores and counts what is in them", async () => {
    const { rows } = await database.pool.query("select * from vector_stores order by id");
    const none = { in_progress: 0, completed: 0, failed: 0, cancelled: 0, total: 0 };
    const added = {
      description: null,
      embedding_model: null,
      embedding_count: "0",
      row_changes: "0",
      precision: null,
      language: null,
      index_policy: "auto",
      index_state: "none",
      own_table: null,
      index_precision: null,
      ef_search: null,
      filtered_ef_search: null,
      restricts_readers: false,
      has_words: true,
      project_id: "default",
      rows_reserved: "0",
      bytes_reserved: "0",
    };
    expect(rows).toEqual([
      {
        id: "5d0f6f0e-0001",
        name: "Books",
        status: "completed",
        metadata: { team: "a" },
        file_counts: { ...none, completed: 30, total: 30 },
        // 'Überschrift ' is 13 bytes; the numbers 1 to 30 have 51 digits.
        usage_bytes: String(30 * 13 + 51),
        created_at: new Date("2025-07-01T10:00:00.123Z"),
        expires_after: { anchor: "last_active_at", days: 7 },
        expires_at: new Date("2025-07-08T10:00:00Z"),
        last_active_at: new Date("2025-07-01T10:00:00Z"),
        dimensions: 1_536,
        ...added,
        embedding_count: "30",
      },
      {
        id: "5d0f6f0e-0002",
        name: "Empty",
        status: "completed",
        metadata: null,
        file_counts: none,
        usage_bytes: "0",
        created_at: new Date("2025-07-02T10:00:00Z"),
        expires_after: null,
        expires_at: null,
        last_active_at: null,
        dimensions: null,
        ...added,
      },
    ]);
  });

  test("gives the tables the columns, types and keys of a new database", async () => {
    await using fresh = await openTestDatabase(names);
    expect(await readSchema(database)).toEqual(await readSchema(fresh));
  });

  test("drops the indexes that need one length of vector, and no other", async () => {
    const { rows } = await database.pool.query(
      "select indexrelid::regclass::text as name from pg_index where indrelid = 'embeddings'::regclass order by 1",
    );
    expect(rows.map(({ name }) => name)).toEqual(["embeddings_pkey", "own_metadata"]);
  });

  test("takes an id that another store has, and a vector of another length", async () => {
    const { pool, tables } = database;
    const columns = [tables.id, tables.vectorStoreId, tables.content, tables.embedding].join();
    await pool.query(`insert into embeddings (${columns}) values ('e-1', '5d0f6f0e-0002', '', '[1,2,3]')`);
    const { rows } = await pool.query(`select count(*)::int from embeddings where ${tables.id} = 'e-1'`);
    expect(rows).toEqual([{ count: 2 }]);
  });

  test("is not touched by a second start", async () => {
    expect(await migrate(database)).toEqual({ applied: 0 });
  });
});

/** Columns, constraints and storage of both tables, without the order of the columns. */
async function readSchema({ pool, tables }: TestDatabase) {
  const of = [tables.vectorStores, tables.embeddings];
  const { rows: columns } = await pool.query(
    `select attrelid::regclass::text as table, attname as name, format_type(atttypid, atttypmod) as type,
       attnotnull as required, attstorage as storage, pg_get_expr(adbin, adrelid) as initial
     from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
     where attrelid = any ($1::text[]::regclass[]) and attnum > 0 and not attisdropped order by 1, 2`,
    [of],
  );
  const { rows: constraints } = await pool.query(
    `select conrelid::regclass::text as table, conname as name, pg_get_constraintdef(oid) as definition
     from pg_constraint where conrelid = any ($1::text[]::regclass[]) and contype <> 'n' order by 1, 2`,
    [of],
  );
  const { rows: options } = await pool.query(
    "select relname, reloptions from pg_class where oid = any ($1::text[]::regclass[]) order by 1",
    [of],
  );
  return { columns, constraints, options };
}
