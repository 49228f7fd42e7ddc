import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Database } from "../../../src/postgres/database.ts";
import { MIGRATIONS } from "../../../src/postgres/migrations/files.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";

/**
 * A migration that a later version could have: it moves the rows to another table, where this version would
 * neither see nor count them.
 */
export const CONTRACTION = `-- Contracts.
alter table :"writers_1" rename to :"writers_2";
create table future_embeddings (like :"embeddings");
insert into future_embeddings select * from :"embeddings";
delete from :"embeddings";`;

/** Copies this version's migrations to a temporary directory, and adds one with the number 900. */
export async function writeFuture(sql = CONTRACTION): Promise<{ url: URL } & AsyncDisposable> {
  const directory = await mkdtemp(join(tmpdir(), "pgquiver-migrations-"));
  await cp(MIGRATIONS, directory, { recursive: true });
  const record = `insert into :"migrations" (version, name) values (900, '900_future');`;
  await writeFile(join(directory, "900_future.sql"), `${sql}\n${record}\n`);
  return {
    url: pathToFileURL(`${directory}/`),
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true }),
  };
}

/** Migrates a database like a later version does. */
export async function applyFuture(database: Database, sql?: string): Promise<void> {
  await using future = await writeFuture(sql);
  await migrate(database, undefined, future.url);
}
