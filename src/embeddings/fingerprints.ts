import type { Queryable } from "../postgres/database.ts";
import { ofVisibleStore } from "../postgres/row-security/policies.ts";
import type { Tables } from "../postgres/tables.ts";

/**
 * Hashes of a stored row, to compare the row with a repeated request without reading the whole text and
 * vector.
 */
export interface Fingerprint {
  id: string;
  created_at: Date;
  metadata: Record<string, unknown> | null;
  /** SHA-256 of the text in UTF-8, and of the vector in pgvector's binary format. */
  content_hash: Buffer;
  embedding_hash: Buffer;
}

/** Reads the fingerprints of those of the ids that exist in a store, in any order. */
export async function findFingerprints(
  client: Queryable,
  tables: Tables,
  storeId: string,
  ids: readonly string[],
): Promise<Fingerprint[]> {
  const result = await client.query<Fingerprint>(
    `select ${tables.id} as id, ${tables.createdAt} as created_at, ${tables.metadata} as metadata,
       sha256(convert_to(${tables.content}, 'UTF8')) as content_hash, sha256(vector_send(${tables.embedding})) as embedding_hash
     from only ${tables.embeddings} where ${tables.vectorStoreId} = ${ofVisibleStore(tables, "$1")} and ${tables.id} = any($2::text[])`,
    [storeId, ids],
  );
  return result.rows;
}
