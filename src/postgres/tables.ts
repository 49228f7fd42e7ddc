/** The SQL identifiers of the tables and of the columns that may be renamed, all quoted. */
export interface Tables {
  vectorStores: string;
  embeddings: string;
  /** The applied migrations. */
  migrations: string;
  /** An empty table that every transaction that writes locks: the migration that contracts the schema renames it. */
  writers: string;
  /** Bulk ingests with their progress, for resuming. */
  ingests: string;
  /**
   * The catalog of own tables and vector indexes: one row per store that has, or is due for, an own table.
   */
  indexes: string;
  /** Uploaded files, and their bytes in parts. */
  files: string;
  fileParts: string;
  /** Uploads of files in parts. */
  uploads: string;
  /** Files attached to stores, and the batches they were attached in. */
  vectorStoreFiles: string;
  fileBatches: string;
  /** List positions of files removed from a store, so that a pagination cursor that names one stays valid. */
  removedFiles: string;
  /** Staging area: chunks of large files that are still being processed. */
  stagedChunks: string;
  /** Cached words of texts in the shared table; empty: the tables are placed for a store with a table of its own. */
  words: string;
  /** Projects, and their API keys. */
  projects: string;
  apiKeys: string;
  /** The audit log. */
  auditLog: string;
  /** Erasures of projects: jobs, and reports of what was erased. */
  erasures: string;
  /** Aliases: other names of stores. */
  aliases: string;
  /** Jobs that embed the texts of stores with another model. */
  reembeddings: string;
  /** Quotas of projects that have some, and what projects use per day. */
  quotas: string;
  tokenUsage: string;
  storeUsage: string;
  /** From here on columns of the embeddings table; the columns of the other tables have fixed names. */
  id: string;
  vectorStoreId: string;
  content: string;
  embedding: string;
  metadata: string;
  createdAt: string;
}

/** Configured names that replace the defaults. */
export interface TableNames {
  /** Default `vector_stores`. */
  vectorStores?: string | undefined;
  /** Default `embeddings`. */
  embeddings?: string | undefined;
  /** Columns of the embeddings table; each defaults to its name in snake case. */
  fields?: Partial<Record<Field, string | undefined>> | undefined;
}

type Field = "id" | "vectorStoreId" | "content" | "embedding" | "metadata" | "createdAt";

/** Postgres silently truncates identifiers to 63 bytes (NAMEDATALEN - 1). */
const IDENTIFIER_BYTES_MAX = 63;

/**
 * Validates and quotes the names, which keeps their case. litellm-pgvector does not quote, so Postgres folds
 * its `DB_FIELDS__ID_FIELD=ChunkId` to `chunkid`: to adopt such a database, configure `chunkid`. Throws an
 * Error that names the invalid setting.
 */
export function quoteTables(names: TableNames): Tables {
  const { vectorStores = "vector_stores", embeddings = "embeddings", fields = {} } = names;
  const columns = {
    id: quote("fields.id", fields.id ?? "id"),
    vectorStoreId: quote("fields.vectorStoreId", fields.vectorStoreId ?? "vector_store_id"),
    content: quote("fields.content", fields.content ?? "content"),
    embedding: quote("fields.embedding", fields.embedding ?? "embedding"),
    metadata: quote("fields.metadata", fields.metadata ?? "metadata"),
    createdAt: quote("fields.createdAt", fields.createdAt ?? "created_at"),
  };
  const tables = {
    vectorStores: quote("vectorStores", vectorStores),
    embeddings: quote("embeddings", embeddings),
    migrations: quote("migrations", ownName("pgquiver_migrations", vectorStores)),
    writers: quoteWriters(WRITERS, vectorStores),
    ingests: quote("ingests", ownName("pgquiver_ingests", vectorStores)),
    indexes: quote("indexes", ownName("pgquiver_indexes", vectorStores)),
    files: quote("files", ownName("pgquiver_files", vectorStores)),
    fileParts: quote("fileParts", ownName("pgquiver_file_parts", vectorStores)),
    uploads: quote("uploads", ownName("pgquiver_uploads", vectorStores)),
    vectorStoreFiles: quote("vectorStoreFiles", ownName("pgquiver_vector_store_files", vectorStores)),
    fileBatches: quote("fileBatches", ownName("pgquiver_file_batches", vectorStores)),
    removedFiles: quote("removedFiles", ownName("pgquiver_removed_files", vectorStores)),
    stagedChunks: quote("stagedChunks", ownName("pgquiver_staged_chunks", vectorStores)),
    words: quote("words", ownName("pgquiver_words", vectorStores)),
    projects: quote("projects", ownName("pgquiver_projects", vectorStores)),
    apiKeys: quote("apiKeys", ownName("pgquiver_api_keys", vectorStores)),
    auditLog: quote("auditLog", ownName("pgquiver_audit_log", vectorStores)),
    erasures: quote("erasures", ownName("pgquiver_erasures", vectorStores)),
    aliases: quote("aliases", ownName("pgquiver_aliases", vectorStores)),
    reembeddings: quote("reembeddings", ownName("pgquiver_reembeddings", vectorStores)),
    quotas: quote("quotas", ownName("pgquiver_quotas", vectorStores)),
    tokenUsage: quote("tokenUsage", ownName("pgquiver_token_usage", vectorStores)),
    storeUsage: quote("storeUsage", ownName("pgquiver_store_usage", vectorStores)),
  };
  const own = { file_id: '"file_id"', chunk_index: '"chunk_index"', chunk_place: '"chunk_place"' };
  requireDifferent({ ...columns, ...own }, "columns");
  requireDifferent(tables, "tables");
  return { ...tables, ...columns };
}

/**
 * The generation of the tables that this version writes. A migration that contracts them begins the next one:
 * set the number here in the same commit.
 */
const WRITERS = 1;

/** What the names of the table `writers` of all generations begin with. */
export const WRITERS_PREFIX = /^pgquiver_writers_[0-9]+/;

/** The quoted name of the table `writers` of a generation, beside the tables of `vectorStores`, not quoted. */
export function quoteWriters(generation: number, vectorStores: string): string {
  return quote("writers", ownName(`pgquiver_writers_${generation}`, vectorStores));
}

/**
 * Returns the tables with `embeddings` replaced by the store's own table, if the store has one, and without `words`. A statement
 * that reads, updates or deletes must say `only ${embeddings}`: the own tables are children (INHERITS) of the
 * shared table, and without ONLY a statement on the shared table includes all of them.
 */
export function placeTables(tables: Tables, store: { own_table: string | null }): Tables {
  return store.own_table === null ? tables : { ...tables, embeddings: `"${store.own_table}"`, words: "" };
}

const COLUMNS: ReadonlySet<string> = new Set<keyof Tables>([
  "id",
  "vectorStoreId",
  "content",
  "embedding",
  "metadata",
  "createdAt",
]);

/** The names of the tables that migrations create, not quoted; the shared embeddings table is the first. */
export function tableNames(tables: Tables): string[] {
  const others = Object.entries(tables).filter(([key]) => key !== "embeddings" && !COLUMNS.has(key));
  return [tables.embeddings, ...others.map(([, name]) => name as string)].map((name) => name.slice(1, -1));
}

/** Appends a configured name of `vector_stores`: installations that share a schema get separate tables. */
function ownName(name: string, vectorStores: string): string {
  const suffix = vectorStores === "vector_stores" ? "" : `_${vectorStores}`;
  return `${name}${suffix}`.slice(0, IDENTIFIER_BYTES_MAX);
}

function quote(setting: string, name: string): string {
  if (!/^[A-Za-z_][A-Za-z0-9_$]*$/.test(name) || name.length > IDENTIFIER_BYTES_MAX) {
    throw new Error(
      `${setting}: ${JSON.stringify(name)} cannot name a table or column: use 1 to ${IDENTIFIER_BYTES_MAX} ` +
        "letters, digits, _ or $, the first a letter or _.",
    );
  }
  return `"${name}"`;
}

function requireDifferent(names: Record<string, string>, kind: string): void {
  const seen = new Map<string, string>();
  for (const [setting, name] of Object.entries(names)) {
    const other = seen.get(name);
    if (other !== undefined)
      throw new Error(`${other} and ${setting}: two ${kind} cannot both be named ${name}.`);
    seen.set(name, setting);
  }
}
