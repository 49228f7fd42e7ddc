import pg from "pg";
import type { Tables } from "../tables.ts";
import { PROJECT_SETTING } from "./client.ts";

/** The tables, without the names of columns. */
type Table = Exclude<
  keyof Tables,
  "id" | "vectorStoreId" | "content" | "embedding" | "metadata" | "createdAt"
>;

/** What calls may do with a table. */
interface Access {
  privileges: "all" | "read" | "none";
  /** SQL conditions of the rows that a call sees, and of those that it writes; undefined: of all. */
  rows?: { seen: string; written: string } | undefined;
}

const PROJECT = `current_setting('${PROJECT_SETTING}', true)`;
const OF_PROJECT = `project_id = ${PROJECT}`;

/** The project of a stored id: see src/store-id.ts. */
const ofStore = (id: string) =>
  `case strpos(${id}, '/') when 0 then 'default' else split_part(${id}, '/', 1) end = ${PROJECT}`;

const same = (condition: string): Access => ({
  privileges: "all",
  rows: { seen: condition, written: condition },
});

/**
 * What calls may do with each table. A test holds the keys to the tables there are.
 *
 * The tables of embeddings have no policy. Postgres uses no operator as a condition of an index scan before a policy
 * unless the operator is LEAKPROOF, and those of jsonb and tsvector are not: of 30,000 rows, keyword search took 14.5
 * instead of 0.07 ms, a filter by the GIN index 15.2 instead of 0.5, by a B-tree of an attribute 12.9 instead of 0.1.
 * Nor is COPY FROM possible into a table with a policy. Their statements name the store by a row of `vector_stores`,
 * which has one: see `ofVisibleStore`. The words of texts, read and deleted in these statements, are as the texts.
 */
export function accessTo({ files }: Tables): Record<Table, Access> {
  const byStore = same(ofStore("vector_store_id"));
  return {
    vectorStores: {
      privileges: "all",
      rows: { seen: OF_PROJECT, written: `${OF_PROJECT} and ${ofStore("id")}` },
    },
    embeddings: { privileges: "all" },
    ingests: byStore,
    // A store that was deleted leaves a row without an id until its table is dropped.
    indexes: same(`vector_store_id is null or ${ofStore("vector_store_id")}`),
    files: same(OF_PROJECT),
    uploads: same(OF_PROJECT),
    // A part is written in the statement that makes the file, so before the file can be seen.
    fileParts: {
      privileges: "all",
      rows: { seen: `exists (select from ${files} as files where files.id = file_id)`, written: "true" },
    },
    vectorStoreFiles: byStore,
    fileBatches: byStore,
    removedFiles: byStore,
    stagedChunks: { privileges: "none" },
    words: { privileges: "all" },
    // Calls of the default project manage all projects and their keys.
    projects: same(`${PROJECT} in ('default', id)`),
    apiKeys: same(`${PROJECT} in ('default', project_id)`),
    // An entry may be about another project, such as one that a call of the default project makes.
    auditLog: { privileges: "all", rows: { seen: `${PROJECT} in ('default', project_id)`, written: "true" } },
    erasures: same(`${PROJECT} in ('default', project_id)`),
    aliases: {
      privileges: "all",
      rows: { seen: OF_PROJECT, written: `${OF_PROJECT} and ${ofStore("vector_store_id")}` },
    },
    reembeddings: byStore,
    // A call of the default project sets the quotas of others, and is told what all of them use.
    quotas: same(`${PROJECT} in ('default', project_id)`),
    tokenUsage: same(`${PROJECT} in ('default', project_id)`),
    storeUsage: same(`${PROJECT} in ('default', project_id)`),
    migrations: { privileges: "read" },
    writers: { privileges: "read" },
  };
}

/** SQL expression: the store's id, when the running call may see the store, else null. */
export function ofVisibleStore({ vectorStores }: Tables, id: string): string {
  return `(select id from ${vectorStores} where id = ${id})`;
}

/** The names of the two policies of each table. */
const FOR_ALL = "pgquiver_everyone";
const FOR_CALLS = "pgquiver_calls";

/**
 * The statements that give a table its policies: a restrictive one for the role of calls, and a permissive one for
 * everybody, without which other roles with privileges, such as an analyst's, would see nothing any more.
 */
export function policyStatements(
  table: string,
  role: string,
  rows: { seen: string; written: string },
): string {
  const name = pg.escapeIdentifier(role);
  return [
    // First: a process that starts at the same time may be making them.
    `lock table ${table} in access exclusive mode`,
    `drop policy if exists ${FOR_ALL} on ${table}`,
    `drop policy if exists ${FOR_CALLS} on ${table}`,
    `create policy ${FOR_ALL} on ${table} using (true) with check (true)`,
    `create policy ${FOR_CALLS} on ${table} as restrictive to ${name} using (${rows.seen}) with check (${rows.written})`,
    `alter table ${table} enable row level security`,
  ].join("; ");
}
