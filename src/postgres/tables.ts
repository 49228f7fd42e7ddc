/** The SQL identifiers of the tables and of the columns that may be renamed: every value is already quoted. */
export interface Tables {
  vectorStores: string;
  embeddings: string;
  /** Which migrations were applied. */
  migrations: string;
  /** How far each bulk ingest has come. */
  ingests: string;
  /** The stores that have, or are to have, a table and an index of their own. */
  indexes: string;
  /** Uploaded files, and their bytes in parts. */
  files: string;
  fileParts: string;
  /** Files attached to stores, and those attached together. */
  vectorStoreFiles: string;
  fileBatches: string;
  /** Where files that were removed from a store stood in its list. */
  removedFiles: string;
  /** Chunks of large files until the files are complete. */
  stagedChunks: string;
  /** These six are columns of the embeddings table; those of the stores' table have fixed names. */
  id: string;
  vectorStoreId: string;
  content: string;
  embedding: string;
  metadata: string;
  createdAt: string;
}

/** The names to use instead of the defaults. */
export interface TableNames {
  /** Default `vector_stores`. */
  vectorStores?: string | undefined;
  /** Default `embeddings`. */
  embeddings?: string | undefined;
  /** Columns of the embeddings table; each defaults to its name in snake case. */
  fields?: Partial<Record<Field, string | undefined>> | undefined;
}

type Field = "id" | "vectorStoreId" | "content" | "embedding" | "metadata" | "createdAt";

/** Postgres keeps 63 bytes of an identifier (NAMEDATALEN - 1) and drops the rest without an error. */
const IDENTIFIER_BYTES_MAX = 63;

/**
 * Checks the names and quotes them. A name is taken as it is written: litellm-pgvector did not quote, so that
 * Postgres folded its `DB_FIELDS__ID_FIELD=ChunkId` to `chunkid`; here that column is named `chunkid`.
 * Throws an Error that names the setting at fault.
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
    ingests: quote("ingests", ownName("pgquiver_ingests", vectorStores)),
    indexes: quote("indexes", ownName("pgquiver_indexes", vectorStores)),
    files: quote("files", ownName("pgquiver_files", vectorStores)),
    fileParts: quote("fileParts", ownName("pgquiver_file_parts", vectorStores)),
    vectorStoreFiles: quote("vectorStoreFiles", ownName("pgquiver_vector_store_files", vectorStores)),
    fileBatches: quote("fileBatches", ownName("pgquiver_file_batches", vectorStores)),
    removedFiles: quote("removedFiles", ownName("pgquiver_removed_files", vectorStores)),
    stagedChunks: quote("stagedChunks", ownName("pgquiver_staged_chunks", vectorStores)),
  };
  requireDifferent({ ...columns, file_id: '"file_id"', chunk_index: '"chunk_index"' }, "columns");
  requireDifferent(tables, "tables");
  return { ...tables, ...columns };
}

/**
 * The tables as one store sees them: those of its rows may be in a table of its own. A statement on
 * `embeddings` that reads, updates or deletes says `only`, for the shared table has the others as children.
 */
export function placeTables(tables: Tables, store: { own_table: string | null }): Tables {
  return store.own_table === null ? tables : { ...tables, embeddings: `"${store.own_table}"` };
}

/** Installations that share a schema under different table names keep tables of their own. */
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
