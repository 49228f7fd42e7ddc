import { vectorStoreExpired, vectorStoreNotFound } from "../errors.ts";
import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { isStorable } from "../postgres/text.ts";
import { findStore, type VectorStoreRow } from "./stores.ts";

/** Reads a store, expired or not; throws NOT_FOUND when it does not exist. */
export async function requireStore(client: Queryable, tables: Tables, id: string): Promise<VectorStoreRow> {
  const row = isStorable(id) ? await findStore(client, tables, id) : undefined;
  if (row === undefined) throw vectorStoreNotFound(id);
  return row;
}

/** Reads a store; throws NOT_FOUND when it does not exist and VECTOR_STORE_EXPIRED when it has expired. */
export async function requireActiveStore(
  client: Queryable,
  tables: Tables,
  id: string,
): Promise<VectorStoreRow> {
  const row = await requireStore(client, tables, id);
  if (row.expired) throw vectorStoreExpired(id);
  return row;
}
