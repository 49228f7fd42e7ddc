import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { expect, inject, onTestFinished, test } from "vitest";
import { openTestDatabase } from "../support/database.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

async function runDoctor(environment: Record<string, string>) {
  const child = spawn(process.execPath, ["src/doctor.ts"], { cwd: ROOT, env: environment });
  const [[code], output, errors] = await Promise.all([
    once(child, "close"),
    text(child.stdout),
    text(child.stderr),
  ]);
  return { code, lines: output.trimEnd().split("\n"), errors };
}

test("a database that is away is a finding with a remedy, without the password, and ends with 1", async () => {
  const { code, lines, errors } = await runDoctor({
    DATABASE_URL: "postgresql://ada:secret@127.0.0.1:1/vectors",
  });
  expect({ code, errors }).toEqual({ code: 1, errors: "" });
  expect(lines).toEqual([
    expect.stringMatching(/^ERROR {4}connection: Cannot use PostgreSQL at 127\.0\.0\.1:1, .*ECONNREFUSED/),
    expect.stringMatching(/^ {9}-> Check that the server runs/),
    "",
    "1 errors, 0 warnings, 0 notices, 0 as they should be",
  ]);
});

test("an embedded database that is not there yet is not made", async () => {
  const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  const data = join(directory, "data");
  const { code, lines } = await runDoctor({ DATA_DIRECTORY: data });
  expect(code).toBe(0);
  expect(lines[0]).toMatch(/^NOTICE {3}connection: There is no database in .*data yet/);
  expect(existsSync(data)).toBe(false);
});

test("a configuration that is wrong is told as at a start", async () => {
  const { code, lines, errors } = await runDoctor({ DATABASE_URL: "mysql://db" });
  expect({ code, lines }).toEqual({ code: 1, lines: [""] });
  expect(errors).toMatch(/^The configuration is invalid:\n {2}DATABASE_URL: /);
});

test.runIf(inject("template").kind === "postgres")(
  "a database in order ends with 0, one in disorder with 1",
  async () => {
    await using database = await openTestDatabase();
    const good = await runDoctor({ DATABASE_URL: String(database.url) });
    expect(good).toMatchObject({ code: 0, errors: "" });
    expect(good.lines).toContain("OK       migrations: The tables are up to date.");
    expect(good.lines.at(-1)).toMatch(/^0 errors, \d+ warnings, \d+ notices, \d+ as they should be$/);
    await database.pool.query("insert into vector_stores (id, embedding_count) values ('vs', 7)");
    const bad = await runDoctor({ DATABASE_URL: String(database.url) });
    expect(bad.code).toBe(1);
    expect(bad.lines[0]).toBe(
      "ERROR    counts: The counter of store vs says 7 embeddings, but the store has 0.",
    );
  },
);

test.runIf(inject("template").kind === "postgres")(
  "checkpoints that were requested are a notice that blames nobody",
  async () => {
    await using database = await openTestDatabase();
    await database.pool.query(
      "select pg_stat_reset_shared(case when to_regclass('pg_catalog.pg_stat_checkpointer') is null then 'bgwriter' else 'checkpointer' end)",
    );
    for (let count = 0; count < 10; count++) await database.pool.query("checkpoint");
    const { lines } = await runDoctor({ DATABASE_URL: String(database.url) });
    const index = lines.findIndex((line) => line.includes(" checkpoints: "));
    expect(lines[index]).toMatch(
      /^NOTICE {3}checkpoints: \d+ of \d+ checkpoints were requested, by bulk loads or otherwise: .*max_wal_size/,
    );
    expect(lines[index + 1]).toContain("alter system set max_wal_size");
  },
);
