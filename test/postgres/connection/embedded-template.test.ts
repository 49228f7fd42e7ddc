import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { openDatabase } from "../../../src/postgres/connection/pool.ts";
import type { Database } from "../../../src/postgres/database.ts";
import { findTemplate, makeTemplate } from "../../../src/postgres/embedded/template.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import { quoteTables } from "../../../src/postgres/tables.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

const tables = quoteTables({});
const embedded = inject("template").kind === "embedded";

let directory: string;
let templates: string;
let template: string;

async function open(name: string): Promise<Database> {
  return openDatabase({ directory: join(directory, name), tables, template, ...TEST_LIMITS });
}

async function create(path: string): Promise<void> {
  const database = await openDatabase({ directory: path, tables, ...TEST_LIMITS });
  await migrate(database);
  await database.close();
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  templates = join(directory, "templates");
  // What an interrupted run left, and the template of another version.
  await mkdir(join(templates, "new-x7T2aB/pgdata"), { recursive: true });
  await mkdir(join(templates, "0".repeat(64)), { recursive: true });
  if (embedded) template = await makeTemplate(tables, create, templates);
});

afterAll(async () => {
  await rm(directory, { recursive: true });
});

test.runIf(embedded)(
  "a database from the template has all tables, and no migration is left to apply",
  async () => {
    const reported: string[] = [];
    const database = await open("whole");
    expect(await migrate(database, (message) => reported.push(message))).toEqual({ applied: 0 });
    expect(reported).toEqual([]);
    await using migrated = await openTestDatabase();
    const columns = `select table_name, column_name, data_type from information_schema.columns
    where table_schema = 'public' order by 1, 2`;
    const [found, expected] = await Promise.all(
      [database, migrated].map(async ({ pool }) => (await pool.query(columns)).rows),
    );
    expect(found?.length).toBeGreaterThan(100);
    expect(found).toEqual(expected);
    await database.close();
  },
);

test.runIf(embedded)("databases from the template share nothing, and keep their rows", async () => {
  const [one, other] = [await open("one"), await open("other")];
  await one.pool.query("insert into vector_stores (id) values ('mine')");
  await Promise.all([one.close(), other.close()]);
  const counts = [];
  for (const name of ["one", "other", "third"]) {
    const database = await open(name);
    const { rows } = await database.pool.query("select count(*)::int as stores from vector_stores");
    counts.push(rows[0]?.stores);
    await database.close();
  }
  expect(counts).toEqual([1, 0, 0]);
});

test.runIf(embedded)(
  "the template is found for its tables only, and is the only one that is kept",
  async () => {
    expect(await findTemplate(tables, templates)).toBe(template);
    expect(await findTemplate(quoteTables({ embeddings: "chunks" }), templates)).toBeUndefined();
    expect(await findTemplate(tables, join(directory, "none"))).toBeUndefined();
    expect((await readdir(templates)).map((name) => join(templates, name))).toEqual([template]);
    // Nobody else may write into what new databases are copied from.
    const paths = await readdir(template, { recursive: true });
    const modes = await Promise.all(
      paths.map(async (path) => (await stat(join(template, path))).mode & 0o022),
    );
    expect(new Set(modes)).toEqual(new Set([0]));
    // It is not made again.
    const again = makeTemplate(tables, () => Promise.reject(new Error("made again")), templates);
    expect(await again).toBe(template);
  },
);

test.runIf(embedded)("a template that cannot be made leaves nothing", async () => {
  const empty = join(directory, "empty");
  const failed = makeTemplate(tables, () => Promise.reject(new Error("no room")), empty);
  await expect(failed).rejects.toThrow("no room");
  expect(await readdir(empty)).toEqual([]);
});
