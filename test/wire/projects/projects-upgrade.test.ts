import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { findMigrations, MIGRATIONS } from "../../../src/postgres/migrations/files.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import type { Reply } from "../../support/clients/client.ts";
import { openEmptyDatabase, type TestDatabase } from "../../support/databases/database.ts";
import { makeProject, makeTestKey } from "../../support/stores/keys.ts";
import { createLitellmTables } from "../../support/databases/litellm-tables.ts";
import { startServer } from "../../support/servers/server.ts";

const root = "a-key-of-the-environment";
const VECTOR = `[${[1, ...Array.from({ length: 1535 }, () => 0)].join()}]`;

/** Writes as a program does that knows nothing of projects, until it is told to stop: one store and one row each time. */
function writeBeside({ pool }: TestDatabase, embeddings: (n: number) => string) {
  let isOver = false;
  let written = 0;
  const run = async () => {
    while (!isOver) {
      const client = await pool.connect();
      try {
        const id = `beside-${written}`;
        await client.query("begin");
        await client.query("insert into vector_stores (id, name) values ($1, 'Beside')", [id]);
        await client.query(embeddings(written), [id, VECTOR]);
        await client.query("commit");
        written++;
      } finally {
        client.release();
      }
    }
    return written;
  };
  const running = run();
  return {
    written: () => written,
    stop: async () => {
      isOver = true;
      return running;
    },
  };
}

/** Waits until a writer has written some more. */
async function goOn(writer: ReturnType<typeof writeBeside>): Promise<void> {
  const before = writer.written();
  await expect.poll(() => writer.written(), { timeout: 20_000 }).toBeGreaterThan(before + 3);
}

const INSERT = `insert into embeddings (id, vector_store_id, content, embedding, metadata) values ('e-' || $1, $1, 'a text', $2, '{"k": "v"}')`;

const grounds: Record<string, (database: TestDatabase) => Promise<void>> = {
  async "litellm-pgvector"(database) {
    await createLitellmTables(database);
  },
  async "the migrations before projects"(database) {
    const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
    onTestFinished(() => rm(directory, { recursive: true }));
    for (const [name, file] of await findMigrations(MIGRATIONS))
      if (/^0(?:0\d|1[01])_/.test(name)) await cp(file, join(directory, name));
    expect(await migrate(database, () => {}, pathToFileURL(`${directory}/`))).toEqual({ applied: 11 });
    await database.pool.query(
      "insert into pgquiver_files (id, state, filename, purpose, created_at) values ('file-old', 'ready', 'old.txt', 'assistants', now())",
    );
  },
};

describe.each(Object.entries(grounds))("a database of %s", (name, prepare) => {
  test("comes through in the project default, while its own programs go on writing", async () => {
    const database = await openEmptyDatabase();
    onTestFinished(() => database.close());
    await prepare(database);
    const { pool } = database;
    await pool.query("insert into vector_stores (id, name, metadata) values ('old', 'Old', '{}')");
    await pool.query(INSERT, ["old", VECTOR]);
    // The embedded database has one connection, which a writer would hold.
    const writer = database.kind === "postgres" ? writeBeside(database, () => INSERT) : undefined;
    if (writer !== undefined) await goOn(writer);
    await migrate(database);
    const team = await makeTestKey(database, await makeProject(database));
    await using server = await startServer({ database, apiKeys: [root] });
    if (writer !== undefined) await goOn(writer);
    const written = await writer?.stop();
    const ask = async (key: string, path: string) => {
      const response = await fetch(`${server.url}/v1${path}`, {
        headers: { authorization: `Bearer ${key}` },
      });
      return { status: response.status, body: (await response.json()) as Reply };
    };
    const { rows } = await pool.query(
      "select count(*)::int as n, min(project_id) as first, max(project_id) as last from vector_stores",
    );
    expect(rows).toEqual([{ n: (written ?? 0) + 1, first: "default", last: "default" }]);
    const old = await ask(root, "/vector_stores/old/embeddings");
    expect(old.body.data).toMatchObject([{ id: "e-old", content: "a text", metadata: { k: "v" } }]);
    const { data: oldest } = (await ask(root, "/vector_stores?limit=1&order=asc")).body;
    expect(oldest).toMatchObject([{ id: "old" }]);
    if (written !== undefined) {
      const last = `beside-${written - 1}`;
      expect((await ask(root, `/vector_stores/${last}/embeddings`)).body.data).toMatchObject([
        { id: `e-${last}` },
      ]);
    }
    const files = (await ask(root, "/files")).body.data.map(({ id }: Reply) => id);
    expect(files).toEqual(name === "litellm-pgvector" ? [] : ["file-old"]);
    // Another team's key meets nothing of it.
    expect((await ask(team, "/vector_stores/old")).status).toBe(404);
    expect((await ask(team, "/vector_stores")).body.data).toEqual([]);
    expect((await ask(team, "/files")).body.data).toEqual([]);
  });
});
