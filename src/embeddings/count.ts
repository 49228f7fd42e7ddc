import { conflict } from "../errors.ts";
import { checkModel } from "../models/same-model.ts";
import type { Client, Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { countAddition, type Addition } from "../storage/counts.ts";
import { reserveQuota } from "../storage/quotas.ts";
import { requireActiveStore } from "../storage/require.ts";
import { checkDimensions } from "./vector.ts";

/**
 * Adds new rows to the store's counts, in the transaction of the rows. When the store does not accept the
 * rows, throws the reason, and the transaction must be rolled back: NOT_FOUND, VECTOR_STORE_EXPIRED, INSUFFICIENT_QUOTA, or
 * DIMENSION_MISMATCH (naming the field `param`) or EMBEDDING_MODEL_MISMATCH when a concurrent write has set
 * the store's dimensions or model. When reading the store again shows no reason, throws a conflict that the
 * caller may retry.
 */
export async function countOrRefuse(
  client: Client,
  tables: Tables,
  storeId: string,
  added: Addition,
  param: string,
): Promise<void> {
  if (await countAddition(client, tables, storeId, added)) return;
  await reserveQuota(client, tables, storeId, added);
  if (await countAddition(client, tables, storeId, added)) return;
  throw await explainRefusal(client, tables, storeId, added, param);
}

/** Returns the reason why a store does not accept rows, as `countOrRefuse` throws it. */
export async function explainRefusal(
  client: Queryable,
  tables: Tables,
  storeId: string,
  { dimensions, embeddingModel }: Pick<Addition, "dimensions" | "embeddingModel">,
  param: string,
): Promise<unknown> {
  try {
    const current = await requireActiveStore(client, tables, storeId);
    checkDimensions({ byteLength: dimensions * 4 }, current.dimensions, storeId, param);
    if (embeddingModel !== null) checkModel(embeddingModel, current);
    return conflict();
  } catch (error) {
    return error;
  }
}
