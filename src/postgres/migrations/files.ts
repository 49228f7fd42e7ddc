import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { MigrationFile } from "./apply.ts";
import { quoteWriters, type Tables } from "../tables.ts";

/** A migration file; its SQL has the configured names of tables and columns in the place of psql's variables. */
export interface Migration extends MigrationFile {
  version: number;
  /** SHA-256 of the file, in hexadecimal digits. */
  checksum: string;
  /** Whether processes of the versions before must not write once the migration is applied. */
  contracts: boolean;
}

/** Where this version's migrations are, older ones in a folder of their own. */
export const MIGRATIONS = new URL("sql/", import.meta.url);

/** The last migration whose first line does not say whether it expands or contracts. */
const LAST_UNMARKED = 8;

/** Finds the migration files of a directory and its folders, in the order of their names: paths by name. */
export async function findMigrations(directory: URL): Promise<Map<string, URL>> {
  const paths = (await readdir(directory, { recursive: true })).filter((path) => path.endsWith(".sql"));
  const found = paths.map((path) => [basename(path), new URL(path, directory)] as const);
  return new Map(found.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** Reads the migration files in order. */
export async function readMigrations(tables: Tables, directory: URL): Promise<Migration[]> {
  const files = await findMigrations(directory);
  return Promise.all(
    [...files].map(async ([name, path]): Promise<Migration> => {
      // Git may check files out with the line ends of Windows.
      const text = (await readFile(path, "utf8")).replaceAll("\r\n", "\n");
      const version = Number.parseInt(name, 10);
      return {
        version,
        name,
        sql: interpolate(text, tables),
        checksum: createHash("sha256").update(text).digest("hex"),
        contracts: version > LAST_UNMARKED && readMark(name, text) === "Contracts",
      };
    }),
  );
}

function readMark(name: string, text: string): string | undefined {
  const mark = /^-- (Expands|Contracts)\b/.exec(text)?.[1];
  if (mark === undefined)
    throw new Error(`The first line of the migration ${name} must begin with -- Expands or -- Contracts.`);
  if ((mark === "Contracts") !== /rename to :"writers_\d+"/.test(text))
    throw new Error(`The migration ${name} must rename the table writers if it contracts, and only then.`);
  return mark;
}

/** Replaces `:"name"` by a quoted identifier and `:'name'` by a quoted literal, like psql. */
function interpolate(sql: string, tables: Tables): string {
  const identifiers: Record<string, string> = {
    vector_stores: tables.vectorStores,
    embeddings: tables.embeddings,
    migrations: tables.migrations,
    ingests: tables.ingests,
    indexes: tables.indexes,
    files: tables.files,
    file_parts: tables.fileParts,
    uploads: tables.uploads,
    vector_store_files: tables.vectorStoreFiles,
    file_batches: tables.fileBatches,
    removed_files: tables.removedFiles,
    staged_chunks: tables.stagedChunks,
    words: tables.words,
    projects: tables.projects,
    api_keys: tables.apiKeys,
    audit_log: tables.auditLog,
    erasures: tables.erasures,
    aliases: tables.aliases,
    reembeddings: tables.reembeddings,
    quotas: tables.quotas,
    token_usage: tables.tokenUsage,
    store_usage: tables.storeUsage,
    id: tables.id,
    vector_store_id: tables.vectorStoreId,
    content: tables.content,
    embedding: tables.embedding,
    metadata: tables.metadata,
    created_at: tables.createdAt,
  };
  return sql.replace(/:(["'])([a-z_]+\d*)\1/g, (variable, quote: string, name: string) => {
    const generation = /^writers_(\d+)$/.exec(name)?.[1];
    const identifier =
      generation === undefined
        ? identifiers[name]
        : quoteWriters(Number(generation), tables.vectorStores.slice(1, -1));
    if (identifier === undefined) throw new Error(`A migration uses the unknown variable ${variable}.`);
    return quote === '"' ? identifier : `'${identifier.slice(1, -1)}'`;
  });
}
