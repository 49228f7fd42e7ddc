import { PGlite } from "@electric-sql/pglite";
import pg from "pg";
import { afterAll, expect, test } from "vitest";
import { diagnose } from "../../../src/diagnostics/diagnose.ts";
import type { Database } from "../../../src/postgres/database.ts";
import { Backend } from "../../../src/postgres/embedded/backend.ts";
import { PgliteSocket } from "../../../src/postgres/embedded/pglite-socket.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import { quoteTables } from "../../../src/postgres/tables.ts";

/** A Postgres on which pgvector is not installed. */
const pglite = await PGlite.create();
const backend = new Backend(pglite as PGlite, { directory: undefined, diskReserveBytes: 0 });
const pool = new pg.Pool({ stream: () => new PgliteSocket(backend, {}), user: "postgres", max: 1 });
const database: Database = {
  pool,
  probe: pool,
  tables: quoteTables({}),
  kind: "embedded",
  description: "a Postgres without pgvector",
  schema: undefined,
  close: () => pool.end(),
};
afterAll(async () => {
  await database.close();
  await pglite.close();
});

/** The package of the server's own version. */
async function packageName(): Promise<string> {
  const { rows } = await pool.query<{ major: number }>(
    "select floor(split_part(version(), ' ', 2)::numeric)::int as major",
  );
  return `postgresql-${rows[0]?.major}-pgvector`;
}

test("a server without pgvector cannot be migrated, and the error names the package to install", async () => {
  await expect(migrate(database)).rejects.toThrow(
    `The server does not have pgvector. Install pgvector on the server, such as by the package ${await packageName()} of`,
  );
});

test("a server without pgvector is an error for the doctor, with the package to install", async () => {
  const settings = { isWorking: true, thresholdBytes: 0, memoryBytes: 0, workers: 0 };
  const found = await diagnose(database, settings, AbortSignal.timeout(20_000));
  const finding = found.find(({ check }) => check === "pgvector");
  expect(finding).toMatchObject({ severity: "error", remedy: expect.stringContaining(await packageName()) });
  expect(finding?.remedy).toMatch(/ Then run: create extension vector;$/);
});
