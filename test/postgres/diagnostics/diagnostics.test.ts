import { afterAll, describe, expect, inject, onTestFinished, test } from "vitest";
import { diagnose, type Diagnosis } from "../../../src/diagnostics/diagnose.ts";
import type { DiagnosticSettings } from "../../../src/diagnostics/finding.ts";
import type { Database } from "../../../src/postgres/database.ts";
import { openDatabase } from "../../../src/postgres/connection/pool.ts";
import { quoteTables } from "../../../src/postgres/tables.ts";
import { openEmptyDatabase, openTestDatabase } from "../../support/databases/database.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

const SETTINGS: DiagnosticSettings = {
  isWorking: true,
  thresholdBytes: 1024 * 1024,
  memoryBytes: 1024 * 1024 * 1024,
  workers: 2,
};

const database = await openTestDatabase();
afterAll(() => database.close());

async function look(
  subject: Database = database,
  settings: Partial<DiagnosticSettings> = {},
): Promise<Diagnosis[]> {
  return diagnose(subject, { ...SETTINGS, ...settings }, AbortSignal.timeout(20_000));
}

/** What one check finds. */
async function find(
  check: string,
  subject: Database = database,
  settings: Partial<DiagnosticSettings> = {},
): Promise<Diagnosis[]> {
  return (await look(subject, settings)).filter((finding) => finding.check === check);
}

async function sql(text: string, values?: unknown[]): Promise<void> {
  await database.pool.query(text, values);
}

/** Makes a store, gone after the test. */
async function makeStore(columns: Record<string, unknown>): Promise<string> {
  const id = `vs_${Math.random().toString(36).slice(2)}`;
  const names = Object.keys(columns);
  await sql(
    `insert into vector_stores (id, ${names.join(", ")}) values ($1${names.map((_, index) => `, $${index + 2}`).join("")})`,
    [id, ...Object.values(columns)],
  );
  onTestFinished(() => sql("delete from vector_stores where id = $1", [id]));
  return id;
}

const asItShouldBe = (message: string) => [expect.objectContaining({ severity: "ok", message })];

describe("a database in order", () => {
  test("has one finding a check, and none that is an error", async () => {
    const found = await look();
    const checks = found.map(({ check }) => check);
    expect(checks).toEqual(
      expect.arrayContaining(["connection", "server_version", "pgvector", "migrations", "counts", "files"]),
    );
    expect(found.filter(({ severity }) => severity === "error")).toEqual([]);
    expect(found.filter(({ message }) => message.startsWith("The check failed: "))).toEqual([]);
    for (const { severity, remedy } of found) if (severity === "ok") expect(remedy).toBeUndefined();
    const bad = found.filter(({ severity }) => severity !== "ok");
    expect(found.slice(0, bad.length)).toEqual(bad);
  });

  // On a server other tests take numbers of transactions meanwhile.
  test.runIf(database.kind === "embedded")("is not written to", async () => {
    const readNext = () =>
      database.pool.query("select pg_snapshot_xmax(pg_current_snapshot())::text as next");
    const before = await readNext();
    await look();
    expect((await readNext()).rows).toEqual(before.rows);
  });
});

describe("a database that is not set up", () => {
  test("lacks the extension and the tables, and is looked over all the same", async () => {
    await using empty = await openEmptyDatabase();
    const found = await look(empty);
    expect(found.filter(({ severity }) => severity === "error").map(({ check }) => check)).toEqual([
      "pgvector",
      "migrations",
    ]);
    expect(found.find(({ check }) => check === "pgvector")?.remedy).toContain("create extension vector;");
    expect(found.find(({ check }) => check === "migrations")?.message).toContain("001_tables.sql");
    expect(found.filter(({ message }) => message.startsWith("The check failed: "))).toEqual([]);
  });

  test("of another version says so", async () => {
    await sql("insert into pgquiver_migrations (version, name) values (999, 'later')");
    onTestFinished(() => sql("delete from pgquiver_migrations where version = 999"));
    const message = "A newer version has migrated the database (later); this version can work beside it.";
    expect(await find("migrations")).toMatchObject([{ severity: "notice", message }]);
    await sql("alter table pgquiver_writers_1 rename to pgquiver_writers_2");
    onTestFinished(() => sql("alter table pgquiver_writers_2 rename to pgquiver_writers_1"));
    const [finding] = await find("migrations");
    expect(`${finding?.severity} ${finding?.message}`).toMatch(/^error .*\(migration later\)/);
  });
});

test("a database that cannot be reached is the one finding", async () => {
  const away = await openDatabase({
    url: "postgresql://ada:secret@127.0.0.1:1/vectors",
    tables: quoteTables({}),
    ...TEST_LIMITS,
  });
  onTestFinished(() => away.close());
  const found = await look(away);
  expect(found).toEqual([
    {
      check: "connection",
      severity: "error",
      message: expect.stringMatching(
        /^Cannot use PostgreSQL at 127\.0\.0\.1:1, database vectors: .*ECONNREFUSED/,
      ),
      remedy: expect.stringContaining("DATABASE_URL"),
    },
  ]);
  expect(JSON.stringify(found)).not.toContain("secret");
});

test("a check that fails is a finding, and the others go on", async () => {
  await sql("alter table pgquiver_indexes rename to elsewhere");
  onTestFinished(() => sql("alter table elsewhere rename to pgquiver_indexes"));
  const found = await look();
  expect(found.filter(({ message }) => message.startsWith("The check failed: "))).toEqual([
    expect.objectContaining({ check: "promotions", severity: "warning" }),
    expect.objectContaining({ check: "recall", severity: "warning" }),
    expect.objectContaining({ check: "own_tables", severity: "warning" }),
  ]);
  expect(found.at(-1)).toMatchObject({ check: "files", severity: "ok" });
});

describe("stores", () => {
  test("whose count is wrong are named, and the remedy mends it", async () => {
    const id = await makeStore({ embedding_count: 5, name: "O'Brien" });
    const [finding] = await find("counts");
    expect(finding).toMatchObject({
      severity: "error",
      message: `The counter of store ${id} says 5 embeddings, but the store has 0.`,
      storeId: id,
    });
    await sql(String(finding?.remedy?.split(";")[0]));
    expect(await find("counts")).toEqual([expect.objectContaining({ severity: "ok" })]);
  });

  test("are counted in the tables of their own", async () => {
    await sql("create table embeddings_77 (like embeddings including defaults, content_tsvector tsvector)");
    await sql("alter table embeddings_77 inherit embeddings");
    onTestFinished(() => sql("drop table embeddings_77"));
    const id = await makeStore({ embedding_count: 1, own_table: "embeddings_77" });
    await sql(
      "insert into embeddings_77 (vector_store_id, id, content, embedding) values ($1, 'a', 'text', '[1]')",
      [id],
    );
    expect(await find("counts")).toEqual([expect.objectContaining({ severity: "ok" })]);
  });

  test("whose index failed are named with the cause", async () => {
    const id = await makeStore({ index_state: "failed" });
    await sql("insert into pgquiver_indexes (vector_store_id, last_error, attempts) values ($1, $2, 3)", [
      id,
      "permission denied",
    ]);
    onTestFinished(() => sql("delete from pgquiver_indexes where vector_store_id = $1", [id]));
    expect(await find("promotions")).toEqual([
      expect.objectContaining({
        severity: "warning",
        message: expect.stringContaining(`Store ${id} has no index: permission denied (3 attempts).`),
        storeId: id,
      }),
    ]);
  });

  test("that wait for an index are a notice, and a warning after an hour", async () => {
    const id = await makeStore({ index_state: "waiting" });
    await sql("insert into pgquiver_indexes (vector_store_id) values ($1)", [id]);
    onTestFinished(() => sql("delete from pgquiver_indexes where vector_store_id = $1", [id]));
    expect(await find("promotions")).toEqual([expect.objectContaining({ severity: "notice", storeId: id })]);
    await sql("update pgquiver_indexes set due_since = now() - interval '2 hours'");
    expect(await find("promotions")).toEqual([
      expect.objectContaining({
        severity: "warning",
        message: `Store ${id} has been waiting for its index for 120 minutes.`,
      }),
    ]);
  });

  test("too large for exact search are told of when nobody builds indexes", async () => {
    await makeStore({ embedding_count: 1_000, dimensions: 1_024 });
    expect(await find("promotions")).toEqual(asItShouldBe("No store waits for an index."));
    expect(await find("promotions", database, { isWorking: false })).toEqual([
      expect.objectContaining({
        severity: "notice",
        message: expect.stringMatching(/^1 stores are too large .* with 3\.9 MiB of vectors/),
        remedy: expect.stringContaining("INDEX_WORKER=auto"),
      }),
    ]);
    expect(await find("promotions", database, { isWorking: false, thresholdBytes: 0 })).toEqual(
      asItShouldBe("No store waits for an index."),
    );
  });

  test("whose table is gone are an error, and a table without a store can be dropped by the remedy", async () => {
    const id = await makeStore({ own_table: "embeddings_78", embedding_count: 20_000 });
    await sql("create table embeddings_79 (like embeddings)");
    await sql("alter table embeddings_79 inherit embeddings");
    const found = await find("own_tables");
    expect(found).toEqual([
      expect.objectContaining({
        severity: "error",
        message: `The table embeddings_78 of store ${id} is gone, and its rows with it.`,
        storeId: id,
      }),
      expect.objectContaining({
        severity: "warning",
        message: expect.stringMatching(/^The table embeddings_79 \(.*\) belongs to no store\.$/),
        remedy: "drop table embeddings_79;",
      }),
    ]);
    await sql(String(found[1]?.remedy));
    expect(await find("own_tables")).toHaveLength(1);
  });

  test("whose files nobody takes up are a warning", async () => {
    await sql(
      "insert into pgquiver_vector_store_files (vector_store_id, file_id, chunking, due_at) values ('vs', 'file', '{}', now() - interval '1 hour')",
    );
    onTestFinished(() => sql("delete from pgquiver_vector_store_files"));
    expect(await find("files")).toEqual([
      expect.objectContaining({
        severity: "warning",
        message: "1 files wait to be read into their stores, one for 60 minutes.",
      }),
    ]);
  });
});

describe.runIf(inject("template").kind === "postgres")("on a server", () => {
  /** The same database by another role, whose name is in `$role`, and by URL parameters. */
  async function openAs(
    statements: readonly string[],
    parameters = "",
  ): Promise<Database & { role: string }> {
    const role = `role_${Math.random().toString(36).slice(2)}`;
    await sql(`create role ${role} login`);
    for (const statement of statements) await sql(statement.replaceAll("$role", role));
    const url = Object.assign(new URL(String(database.url)), { username: role, search: parameters }).href;
    const opened = await openDatabase({ url, tables: quoteTables({}), ...TEST_LIMITS });
    onTestFinished(async () => {
      await opened.close();
      await sql(`drop owned by ${role}`);
      await sql(`drop role ${role}`);
    });
    return { ...opened, role };
  }

  test("settings, connections and builds are looked at as well", async () => {
    const checks = (await look()).map(({ check }) => check);
    const ofServers = ["durability", "connections", "sessions", "planner", "checkpoints", "builds"];
    expect(checks).toEqual(expect.arrayContaining(ofServers));
  });

  test("an index whose build failed is named, and the remedy removes it", async () => {
    await sql("insert into vector_stores (id, name) values ('a', 'same'), ('b', 'same')");
    onTestFinished(() => sql("delete from vector_stores where name = 'same'"));
    await expect(sql("create unique index concurrently failed on vector_stores (name)")).rejects.toThrow(
      "could not create unique index",
    );
    const [finding] = await find("invalid_indexes");
    expect(finding).toMatchObject({
      severity: "warning",
      message: expect.stringContaining("The index failed of vector_stores is invalid"),
      remedy: "drop index concurrently failed;",
    });
    await sql(String(finding?.remedy));
    expect(await find("invalid_indexes")).toEqual(asItShouldBe("Every index is valid."));
  });

  test("a role that may not create tables is told which statements to run, and they mend it", async () => {
    const service = await openAs([
      "grant select, insert, update, delete on all tables in schema public to $role",
    ]);
    const found = await find("privileges", service);
    expect(found.map(({ severity }) => severity)).toEqual(found.map(() => "warning"));
    expect(found[0]).toMatchObject({ remedy: `grant create on schema public to ${service.role};` });
    expect(found.some(({ message }) => message.includes("does not own the table vector_stores"))).toBe(true);
    await sql(String(found[0]?.remedy));
    const after = await find("privileges", service);
    expect(after).toHaveLength(found.length - 1);
  });

  test("a role that may not write is an error", async () => {
    const service = await openAs(["grant select on all tables in schema public to $role"]);
    expect(await find("privileges", service)).toContainEqual(
      expect.objectContaining({
        severity: "error",
        message: "The role lacks the privilege to delete in the table vector_stores.",
        remedy: `grant delete on vector_stores to ${service.role};`,
      }),
    );
  });

  test("acknowledged rows that may be lost are a warning", async () => {
    const service = await openAs([
      "grant select on all tables in schema public to $role",
      "alter role $role set synchronous_commit = off",
    ]);
    expect(await find("durability", service)).toEqual([
      expect.objectContaining({
        severity: "warning",
        message: expect.stringContaining("synchronous_commit is off"),
        remedy: expect.stringContaining(`alter role ${service.role} set synchronous_commit = on;`),
      }),
    ]);
    expect(await find("durability")).toEqual(asItShouldBe("Acknowledged writes survive a crash."));
  });

  test("limits that a PgBouncer drops are told of, with what sets them for the role", async () => {
    const service = await openAs(["grant select on all tables in schema public to $role"], "pgbouncer=true");
    const found = await find("sessions", service);
    expect(found.map(({ message }) => message.split(" ")[0])).toEqual([
      "statement_timeout",
      "idle_in_transaction_session_timeout",
      "client_connection_check_interval",
    ]);
    expect(found[0]?.remedy).toBe(`alter role ${service.role} set statement_timeout = '60s';`);
    expect(await find("sessions")).toEqual(asItShouldBe("Sessions have their time limits."));
  });

  test("a role with too few connections is told of", async () => {
    const service = await openAs([
      "grant select on all tables in schema public to $role",
      "alter role $role connection limit 4",
    ]);
    expect(await find("connections", service)).toEqual([
      expect.objectContaining({
        severity: "warning",
        message: expect.stringContaining("takes 4 connections"),
      }),
    ]);
  });

  test("rows that vacuum has not cleared away are told of, and the remedy clears them", async () => {
    await sql("alter table embeddings set (autovacuum_enabled = off)");
    const client = await database.pool.connect();
    try {
      await client.query(
        "insert into embeddings (vector_store_id, id, content, embedding) select 'vs', g::text, '', '[1]' from generate_series(1, 20000) g",
      );
      await client.query("delete from embeddings where id::int > 5000");
      await client.query("select pg_stat_force_next_flush()");
    } finally {
      client.release();
    }
    const [finding] = await find("dead_rows");
    expect(finding).toMatchObject({
      severity: "warning",
      message: "75 % of the rows of embeddings are dead (15,000), never vacuumed.",
    });
    await sql("delete from embeddings");
    await sql(String(finding?.remedy?.split(";")[0]));
    await sql("alter table embeddings reset (autovacuum_enabled)");
    expect(await find("dead_rows")).toEqual(asItShouldBe("Vacuum keeps up with deleted rows."));
  });

  test("an index that deletions have left too large is told of, and the remedy shrinks it", async () => {
    await sql("create table embeddings_80 (like embeddings including defaults)");
    onTestFinished(() => sql("drop table embeddings_80"));
    await sql("alter table embeddings_80 inherit embeddings");
    await sql(
      `insert into embeddings_80 (vector_store_id, id, content, embedding)
       select 'vs_80', g::text, '', array_fill(random()::real, array[900])::vector from generate_series(1, 9000) g`,
    );
    await sql(
      "create index bloated on embeddings_80 using hnsw ((embedding::vector(900)) vector_l2_ops) with (m = 2, ef_construction = 4)",
    );
    await sql("analyze embeddings_80");
    expect(await find("index_sizes")).toEqual(
      asItShouldBe("The vector indexes take 35 MiB, the buffers of the server (shared_buffers) 128 MiB."),
    );
    await sql("delete from embeddings_80 where id::int > 3000");
    await sql("analyze embeddings_80");
    const [finding] = await find("index_sizes");
    expect(finding).toMatchObject({
      severity: "warning",
      message: expect.stringMatching(/^The index bloated takes 35 MiB, where its 3,000 rows need 12 MiB:/),
    });
    await sql(String(finding?.remedy));
    expect(await find("index_sizes")).toHaveLength(1);
  });
});
