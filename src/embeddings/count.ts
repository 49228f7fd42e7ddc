import { conflict } from "../errors.ts";
import type { Embedder } from "../models/embedder.ts";
import { checkModel } from "../models/same-model.ts";
import type { Client } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { recordAddition, type Addition } from "../storage/counts.ts";
import { requireActiveStore } from "../storage/require.ts";
import { checkDimensions } from "./vector.ts";

/**
 * Counts added rows in their store, in the transaction of the rows, or throws why the store refuses
 * them, which must roll it back: it is gone or expired, or was meanwhile fixed to other dimensions (an
 * error of the field `param`) or another model. When a second look finds nothing wrong, the call may
 * be tried again.
 */
export async function recordOrRefuse(
  client: Client,
  tables: Tables,
  embedder: Embedder,
  storeId: string,
  added: Addition,
  param: string,
): Promise<void> {
  if (await recordAddition(client, tables, storeId, added)) return;
  const current = await requireActiveStore(client, tables, storeId);
  checkDimensions({ byteLength: added.dimensions * 4 }, current.dimensions, storeId, param);
  checkModel(embedder, current);
  throw conflict();
}
