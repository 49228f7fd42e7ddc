import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, inject, onTestFinished, test } from "vitest";
import { certificate } from "../../support/servers/certificate.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { freePort, start } from "../../support/servers/process.ts";

async function runDoctor(environment: Record<string, string>) {
  const { output, ended } = start(environment, { command: [process.execPath, "src/doctor.ts"] });
  const { code, errors } = await ended;
  return { code, lines: output, errors };
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
    "1 errors, 0 warnings, 0 notices, 0 ok",
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

test("beside a service that runs on the embedded database, that service looks it over", async () => {
  const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  const data = join(directory, "data");
  const files = { TLS_CERT_FILE: join(directory, "cert.pem"), TLS_KEY_FILE: join(directory, "key.pem") };
  await writeFile(files.TLS_CERT_FILE, certificate.cert);
  await writeFile(files.TLS_KEY_FILE, certificate.key);
  const key = { SERVER_API_KEY: "secret, other" };
  const environment = {
    DATA_DIRECTORY: data,
    HOST: "127.0.0.1",
    PORT: String(await freePort()),
    ...key,
    ...files,
  };
  const service = start(environment);
  expect(await service.said(/^Listening/)).toContain("https://127.0.0.1:");
  const { code, lines, errors } = await runDoctor(environment);
  expect({ code, errors }).toEqual({ code: 0, errors: "" });
  expect(lines).toContain(`OK       connection: Connected to the embedded database in ${data}.`);
  expect(lines.at(-1)).toMatch(/^0 errors, .* [1-9]\d* ok$/);
  // With another key it cannot say how the database is, which is no sign that anything is wrong with it.
  const refused = await runDoctor({ ...environment, SERVER_API_KEY: "wrong" });
  expect(refused).toMatchObject({ code: 0, errors: "" });
  expect(refused.lines.slice(0, 2)).toEqual([
    `WARNING  connection: The embedded database in ${data} is open in process ${service.child.pid}, which gave no ` +
      `findings on port ${environment.PORT}: it answered with status 401.`,
    "         -> Set PORT, HOST and SERVER_API_KEY to the values of that process, or call its GET /v1/diagnostics.",
  ]);
  service.child.kill("SIGTERM");
  await service.ended;
}, 300_000);

test("a configuration that is wrong is told as at a start", async () => {
  const { code, lines, errors } = await runDoctor({ DATABASE_URL: "mysql://db" });
  expect({ code, lines }).toEqual({ code: 1, lines: [] });
  expect(errors).toMatch(/^The configuration is invalid:\n {2}DATABASE_URL: /);
});

test.runIf(inject("template").kind === "postgres")(
  "a database in order ends with 0, one in disorder with 1",
  async () => {
    await using database = await openTestDatabase();
    const good = await runDoctor({ DATABASE_URL: String(database.url) });
    expect(good).toMatchObject({ code: 0, errors: "" });
    expect(good.lines).toContain("OK       migrations: The tables are up to date.");
    expect(good.lines.at(-1)).toMatch(/^0 errors, \d+ warnings, \d+ notices, \d+ ok$/);
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
