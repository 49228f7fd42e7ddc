import pg from "pg";
import { describe, expect, inject, onTestFinished, test } from "vitest";
import { applyMigrations } from "../../../src/postgres/migrations/apply.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import { transaction } from "../../../src/postgres/transaction.ts";
import { openEmptyDatabase, openTestDatabase, type TestDatabase } from "../../support/databases/database.ts";
import { createLitellmTables } from "../../support/databases/litellm-tables.ts";

const native = inject("template").kind === "postgres";

/** A session beside the service, which ends with the test. */
async function openSession({ url }: TestDatabase, applicationName: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: applicationName });
  await client.connect();
  client.on("error", () => {});
  onTestFinished(() => client.end().catch(() => {}));
  return client;
}

async function pidOf(client: pg.Client): Promise<number> {
  return (await client.query("select pg_backend_pid() as pid")).rows[0].pid;
}

describe.runIf(native)("a transaction that has read the tables", () => {
  test("is named in the log, while others use the tables, until it ends and the migration goes on", async () => {
    await using database = await openEmptyDatabase();
    await createLitellmTables(database);
    const holder = await openSession(database, "old notebook");
    const application = await openSession(database, "litellm-pgvector");
    await holder.query("begin; select from vector_stores");
    const waiting = Promise.withResolvers<string>();
    const migrated = migrate(database, (message) => {
      if (message.includes("waits for locks")) waiting.resolve(message);
    });
    const pid = await pidOf(holder);
    expect(await waiting.promise).toMatch(
      new RegExp(
        String.raw`^002_adopt_litellm_pgvector\.sql waits for locks on its tables, held by pid ${pid} \(old notebook of postgres, idle in transaction, for \d+ s\); it tries again`,
      ),
    );
    // Several tries of the migration fall into this; each keeps a statement waiting for a second at most.
    await application.query("set statement_timeout = '10s'");
    for (let insertion = 0; insertion < 5; insertion++)
      await application.query("insert into vector_stores (id, name) values ($1, '')", [insertion]);
    await holder.query("commit");
    await migrated;
    const { rows } = await database.pool.query("select count(*)::int as stores from vector_stores");
    expect(rows).toEqual([{ stores: 5 }]);
  });

  test("that does not end makes the migration fail, with the statement that ends it", async () => {
    await using database = await openTestDatabase();
    const holder = await openSession(database, "psql");
    await holder.query("begin; select from embeddings");
    const log: string[] = [];
    const apply = (totalMs: number) =>
      transaction(database.pool, (client) =>
        applyMigrations(
          client,
          database.tables,
          [
            { name: "098.sql", sql: "create table made (); alter table vector_stores add note text" },
            { name: "099.sql", sql: "alter table embeddings add note text" },
          ],
          (message) => log.push(message),
          { tryMs: 50, pausesMs: [10], totalMs },
        ),
      );
    const pid = await pidOf(holder);
    await expect(apply(300)).rejects.toThrow(
      new RegExp(
        String.raw`^Migration 099\.sql failed and was rolled back: its tables have been locked for 0\.3 s by pid ${pid} \(psql of .*\); select pg_terminate_backend\(${pid}\);\.$`,
      ),
    );
    // The holders are the same in every try, so they are named once.
    expect(log).toHaveLength(1);
    const terminate = `select pg_terminate_backend(${pid})`;
    await database.pool.query(terminate);
    await apply(10_000);
    const { rows } = await database.pool.query("select to_regclass('made') is not null as is_made");
    expect(rows).toEqual([{ is_made: true }]);
  });

  test("leaves the tables of an earlier migration free between the tries", async () => {
    await using database = await openTestDatabase();
    const holder = await openSession(database, "psql");
    const application = await openSession(database, "application");
    await holder.query("begin; select from embeddings");
    await application.query("set statement_timeout = '10s'");
    const waiting = Promise.withResolvers<string>();
    const applied = transaction(database.pool, (client) =>
      applyMigrations(
        client,
        database.tables,
        [
          { name: "098.sql", sql: "alter table vector_stores add note text" },
          { name: "099.sql", sql: "alter table embeddings add note text" },
        ],
        waiting.resolve,
        { tryMs: 50, pausesMs: [200], totalMs: 60_000 },
      ),
    );
    expect(await waiting.promise).toContain("099.sql waits for locks");
    await application.query("select from vector_stores");
    await holder.query("commit");
    await applied;
    await application.query("select note from vector_stores");
  });

  test("of another role is named as far as this role may see it", async () => {
    await using database = await openTestDatabase();
    const role = `pgquiver_plain_${process.pid}`;
    await database.pool.query(`create role ${role} login; grant all on schema public to ${role}`);
    onTestFinished(async () => {
      const client = new pg.Client(
        inject("template").kind === "postgres" ? process.env["TEST_DATABASE_URL"] : "",
      );
      await client.connect();
      await client.query(`drop role ${role}`);
      await client.end();
    });
    await database.pool.query(`alter table vector_stores owner to ${role}`);
    const holder = await openSession(database, "psql");
    await holder.query("begin; select from vector_stores");
    const url = Object.assign(new URL(database.url ?? ""), { username: role, password: "" }).href;
    const plain = new pg.Pool({ connectionString: url, max: 1 });
    try {
      const applied = transaction(plain, (client) =>
        applyMigrations(
          client,
          database.tables,
          [{ name: "099.sql", sql: "alter table vector_stores add note text" }],
          () => {},
          {
            tryMs: 50,
            pausesMs: [10],
            totalMs: 100,
          },
        ),
      );
      await expect(applied).rejects.toThrow(
        `by pid ${await pidOf(holder)} (psql of postgres, state and age are visible to members of pg_read_all_stats only); select pg_terminate_backend`,
      );
    } finally {
      await plain.end();
    }
  });
});

test("a migration's warnings are reported once, and its notices are not", async () => {
  await using database = await openTestDatabase();
  const log: string[] = [];
  const sql = "do $$ begin raise warning 'seen'; raise notice 'not seen'; end $$";
  await transaction(database.pool, (client) =>
    applyMigrations(client, database.tables, [{ name: "099.sql", sql }], (message) => log.push(message)),
  );
  expect(log).toEqual(["099.sql: seen"]);
});
