import { messageOf } from "./errors.ts";
import { openDatabase } from "./postgres/connection/pool.ts";
import { makeTemplate } from "./postgres/embedded/template.ts";
import { migrate } from "./postgres/migrations/migrate.ts";
import { quoteTables } from "./postgres/tables.ts";

/** Timeout of a statement and of a connection, of which the embedded database needs none. */
const TIMEOUT_MS = 60_000;

/** Makes an empty database with the tables of this version, under their default names. */
async function createDatabase(directory: string): Promise<void> {
  const limits = { poolMax: 1, connectTimeoutMs: TIMEOUT_MS, statementTimeoutMs: TIMEOUT_MS };
  const database = await openDatabase({ directory, tables: quoteTables({}), ...limits });
  try {
    await migrate(database);
  } finally {
    await database.close();
  }
}

// Nothing of the environment or of a data directory goes into the template.
try {
  await makeTemplate(quoteTables({}), createDatabase);
  // For the cache of compiled code, which start.mjs has switched on.
  await import("./serve.ts");
} catch (error) {
  process.stderr.write(
    `pgquiver: the template of the embedded database could not be made, so the first start takes some seconds more: ${messageOf(error)}\n`,
  );
  process.exitCode = 1;
}
