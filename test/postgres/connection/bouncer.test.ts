import { OpenAI, toFile } from "openai";
import { describe, expect, inject, test } from "vitest";
import { diagnose } from "../../../src/diagnostics/diagnose.ts";
import { messageOf } from "../../../src/errors.ts";
import type { Database } from "../../../src/postgres/database.ts";
import { toServiceError } from "../../../src/postgres/errors.ts";
import { runExclusively } from "../../../src/postgres/exclusive.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import { openDatabase } from "../../../src/postgres/connection/pool.ts";
import { cancellable } from "../../../src/postgres/transaction.ts";
import { queryWithSettings } from "../../../src/postgres/protocol/with-settings.ts";
import { quoteTables } from "../../../src/postgres/tables.ts";
import { hasBouncer, startBouncer } from "../../support/databases/bouncer.ts";
import { openEmptyDatabase, openTestDatabase } from "../../support/databases/database.ts";
import { startServer } from "../../support/servers/server.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

async function open(url: string): Promise<Database & AsyncDisposable> {
  const database = await openDatabase({ url, tables: quoteTables({}), ...TEST_LIMITS });
  return { ...database, [Symbol.asyncDispose]: () => database.close() };
}

const native = inject("template").kind === "postgres";

describe.runIf(native && hasBouncer)("behind PgBouncer in transaction mode", () => {
  test("stores are made, filled and searched by many callers at once", async () => {
    await using own = await openTestDatabase();
    await using bouncer = await startBouncer(String(own.url));
    await using database = await open(`${bouncer.url}?pgbouncer=true`);
    await using server = await startServer({ database });
    const client = new OpenAI({ apiKey: "any", baseURL: `${server.url}/v1`, maxRetries: 0 });
    // More callers than connections, and more of these than backends: statements of one meet those of all others.
    const found = await Promise.all(
      Array.from({ length: 12 }, async (_, index) => {
        const words = `needle ${index}`;
        const store = await client.vectorStores.create({ name: `Store ${index}` });
        const rows = { embeddings: Array.from({ length: 3 }, (_row, row) => ({ content: `hay ${row}` })) };
        await client.post(`/vector_stores/${store.id}/embeddings/batch`, { body: rows });
        const file = await client.files.create({
          file: await toFile(Buffer.from(words), `${index}.txt`),
          purpose: "assistants",
        });
        await client.vectorStores.files.createAndPoll(store.id, { file_id: file.id }, { pollIntervalMs: 20 });
        const page = await client.vectorStores.search(store.id, { query: words, max_num_results: 1 });
        await client.vectorStores.delete(store.id);
        return page.data[0]?.filename;
      }),
    );
    expect(found).toEqual(Array.from({ length: 12 }, (_, index) => `${index}.txt`));
  });

  test("a search has its settings, and the next one on the same backend has not", async () => {
    await using own = await openTestDatabase();
    await using bouncer = await startBouncer(String(own.url));
    await using database = await open(`${bouncer.url}?pgbouncer=true`);
    // A backend that has not loaded pgvector does not know the setting.
    const show = {
      text: "select coalesce(current_setting('hnsw.ef_search', true), '') as value",
      values: [],
    };
    const values = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        cancellable(database.pool, AbortSignal.timeout(60_000), async (client) => {
          const settings = { ...database.searchSettings, "hnsw.ef_search": 500 + index };
          const { rows } = await (index % 2 === 0
            ? queryWithSettings<{ value: string }>(client, show, settings)
            : client.query<{ value: string }>(show));
          return rows[0]?.value ?? "";
        }),
      ),
    );
    // A database of a cluster has the service's setting, since its nodes connect to each other.
    const others = own.citus === undefined ? ["", "40"] : ["", "100"];
    for (const [index, value] of values.entries())
      expect(index % 2 === 0 ? [String(500 + index)] : others).toContain(value);
  });

  test("a schema of the URL must be the one that the role begins with", async () => {
    await using own = await openEmptyDatabase();
    const schema = 'own "one"';
    const parameters = `pgbouncer=true&schema=${encodeURIComponent(schema)}`;
    await own.pool.query(`create schema "own ""one"""`);
    await own.pool.query("create extension if not exists vector schema public");
    {
      await using bouncer = await startBouncer(String(own.url));
      await using database = await open(`${bouncer.url}?${parameters}`);
      const refusal = await migrate(database).then(() => expect.unreachable("migrated"), messageOf);
      expect(refusal).toMatch(
        /^DATABASE_URL names the schema own "one", and PgBouncer in transaction mode carries no/,
      );
      const [, remedy = ""] = refusal.split("\n");
      expect(remedy).toMatch(/^ {2}alter role \S+ in database \S+ set search_path = "own ""one""", public;$/);
      await own.pool.query(remedy);
    }
    await using bouncer = await startBouncer(String(own.url));
    await using database = await open(`${bouncer.url}?${parameters}`);
    expect((await migrate(database)).applied).toBeGreaterThan(0);
    expect(await migrate(database)).toEqual({ applied: 0 });
    const { rows } = await own.pool.query(
      "select table_schema from information_schema.tables where table_name = 'vector_stores'",
    );
    expect(rows).toEqual([{ table_schema: schema }]);
  });

  test("a URL that does not name it gets the hint to name it", async () => {
    await using own = await openTestDatabase();
    await using bouncer = await startBouncer(String(own.url));
    await using database = await open(bouncer.url);
    const settings = { isWorking: false, thresholdBytes: 0, memoryBytes: 0, workers: 0, language: "english" };
    expect(await diagnose(database, settings, AbortSignal.timeout(60_000))).toEqual([
      {
        check: "connection",
        severity: "error",
        message: expect.stringContaining("unsupported startup parameter: options"),
        remedy: expect.stringContaining("add pgbouncer=true to the query of DATABASE_URL"),
      },
    ]);
  });

  describe("that drops settings in silence, not named by the URL", () => {
    const drops = ["ignore_startup_parameters = options"];

    test("work that needs a session's lock is refused", async () => {
      await using own = await openTestDatabase();
      await using bouncer = await startBouncer(String(own.url), drops);
      await using database = await open(bouncer.url);
      const reported = Promise.withResolvers<unknown>();
      const work = runExclusively(database, "tests", () => Promise.reject(new Error("The work was begun.")), {
        report: reported.resolve,
      });
      expect(messageOf(await reported.promise)).toMatch(/^The tests are off: .* Set DATABASE_DIRECT_URL/);
      await work.stop();
      const { rows } = await own.pool.query(
        `select from pg_locks where locktype = 'advisory'
           and database = (select oid from pg_database where datname = current_database())`,
      );
      expect(rows).toEqual([]);
    });

    test("a statement's name that another connection has used comes with the hint", async () => {
      await using own = await openTestDatabase();
      await using bouncer = await startBouncer(String(own.url), drops);
      await using database = await open(bouncer.url);
      const ask = () => database.pool.query({ name: "one", text: "select pg_sleep(0.1)" });
      const askAll = () => Promise.all([ask(), ask(), ask(), ask(), ask()]);
      // A connection prepares a statement when it comes a second time.
      const outcomes = await askAll().then(askAll).catch(toServiceError);
      expect(messageOf(outcomes)).toMatch(/^prepared statement "one" already exists\. .*add pgbouncer=true/);
    });
  });
});
