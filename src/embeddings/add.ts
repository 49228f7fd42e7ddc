import { alreadyExists, vectorStoreExpired } from "../errors.ts";
import type { Embedder } from "../models/embedder.ts";
import { checkModel, checkSameModel, chooseEmbedder } from "../models/same-model.ts";
import type { Database } from "../postgres/database.ts";
import { findTakenIds } from "../storage/embeddings.ts";
import { readPlaced } from "../storage/placement.ts";
import { requireRoom } from "../storage/quotas.ts";
import { requireActiveStore } from "../storage/require.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import type { GroupCommit } from "./group-commit.ts";
import {
  checkAllDimensions,
  readInputs,
  vectorParam,
  type Addressing,
  type Input,
  type Path,
} from "./input.ts";
import type { Insertion } from "./insertion.ts";
import { findEarlier } from "./repeated-request.ts";
import type { Row } from "./row.ts";

/**
 * Adds embeddings to a store atomically: validates all rows, embeds the texts without a vector, and inserts
 * rows and counts in one transaction, which small requests share (`GroupCommit`). Returns the rows in the order of the
 * inputs, after the commit. With an idempotency key, a repeated request returns the rows stored by the first one. Throws
 * INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, VECTOR_STORE_EXPIRED, DIMENSION_MISMATCH, EMBEDDING_MODEL_MISMATCH or
 * IDEMPOTENCY_CONFLICT.
 */
export async function addEmbeddings(
  database: Database,
  embedder: Embedder,
  commits: GroupCommit,
  inputs: readonly Input[],
  { storeId, path, idempotencyKey, payer, signal }: Addressing,
): Promise<Pick<Row, "id" | "createdAt">[]> {
  const { pool, tables } = database;
  const checked = await readInputs(inputs, { storeId, path, idempotencyKey });
  const missing = checked.filter((row) => row.vector === undefined).map((row) => row.content);
  const isRepeatable = idempotencyKey !== undefined;
  const findStore = async () => requireActiveStore(pool, tables, storeId);
  // Other requests read the store's row in the transaction.
  const known = isRepeatable || missing.length > 0 ? await findStore() : undefined;
  const earlier =
    isRepeatable && known !== undefined ? await findEarlier(database, known, checked) : undefined;
  if (earlier !== undefined) return earlier;
  const chosen = missing.length > 0 && known !== undefined ? chooseEmbedder(embedder, known) : undefined;
  if (chosen !== undefined) {
    const bytes = checked.reduce((sum, row) => sum + row.contentBytes, 0);
    await requireRoom(pool, tables, storeId, { rows: checked.length, bytes });
  }
  const embedded =
    chosen === undefined ? [] : (await chosen.embed(missing, signal, "bounded", payer)).vectors;
  let next = 0;
  const rows = checked.map((row): Row => ({
    ...row,
    vector: row.vector ?? (embedded[next++] as Float32Array),
  }));
  const insertion: Insertion = {
    rows,
    embeddingModel: chosen?.model ?? null,
    vectorParam: vectorParam(inputs, 0, path),
    check(current) {
      if (current.expired) throw vectorStoreExpired(storeId);
      if (chosen !== undefined && known !== undefined) checkSameModel(known, current);
      checkAllDimensions(rows, inputs, current, path);
      if (chosen !== undefined) checkModel(chosen.model, current);
    },
  };
  if (await commits.insert(storeId, insertion, payer.caller, signal)) return rows;
  const store = known ?? (await findStore());
  // Two requests with the same key at the same time: the other one has committed first.
  const first = isRepeatable ? await findEarlier(database, store, checked) : undefined;
  if (first !== undefined) return first;
  throw await explainTaken(database, store, inputs, path);
}

/**
 * ALREADY_EXISTS with the id that is taken: Postgres' error has the id only in a localized text, so look it
 * up.
 */
async function explainTaken(
  { pool, tables }: Database,
  store: VectorStoreRow,
  inputs: readonly Input[],
  path: Path,
): Promise<Error> {
  const ids = inputs.map((input) => input.id).filter((id) => id !== undefined);
  const [id] = await readPlaced(pool, tables, store, (client, placed) =>
    findTakenIds(client, placed, store.id, ids),
  );
  const index = inputs.findIndex((input) => input.id === id);
  return alreadyExists(`An embedding with the id '${id}' already exists.`, `${path(Math.max(index, 0))}id`);
}
