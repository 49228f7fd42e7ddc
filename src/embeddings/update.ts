import { conflict, embeddingNotFound, embeddingOfFile, vectorStoreExpired } from "../errors.ts";
import type { Embedder, Payer } from "../models/embedder.ts";
import { checkModel, checkSameModel, chooseEmbedder } from "../models/same-model.ts";
import { encodeVector } from "../postgres/copy.ts";
import type { Client, Database } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { isStorable } from "../postgres/text.ts";
import { countAdditionStatement } from "../storage/counts.ts";
import {
  findFileOf,
  updateEmbedding,
  type EmbeddingChange,
  type UpdatedEmbedding,
} from "../storage/embeddings.ts";
import { readPlaced, writeStoreFramed, type OpenedStore } from "../storage/placement.ts";
import { requireActiveStore } from "../storage/require.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import { reservingLater } from "./insertion.ts";
import type { Change } from "./request.ts";
import { checkJson, writeMetadata } from "./row.ts";
import { checkDimensions } from "./vector.ts";

/** Which embedding is changed, and by whom. */
interface Addressing {
  storeId: string;
  embeddingId: string;
  payer: Payer;
  signal: AbortSignal;
}

/**
 * Changes an embedding and the store's counts, in one transaction under the lock of the store's row, and returns the
 * changed row. A new text without a vector is embedded before. Throws NOT_FOUND, FAILED_PRECONDITION for a chunk of a
 * file, VECTOR_STORE_EXPIRED, DIMENSION_MISMATCH, EMBEDDING_MODEL_MISMATCH, INVALID_ARGUMENT or INSUFFICIENT_QUOTA.
 */
export async function changeEmbedding(
  database: Database,
  embedder: Embedder,
  change: Change,
  { storeId, embeddingId, payer, signal }: Addressing,
): Promise<UpdatedEmbedding> {
  const { pool, tables } = database;
  if (!isStorable(embeddingId)) {
    await requireActiveStore(pool, tables, storeId);
    throw embeddingNotFound(storeId, embeddingId);
  }
  const embedded =
    change.content === undefined || change.vector !== undefined
      ? undefined
      : await embedContent(database, embedder, change.content, { storeId, embeddingId, payer, signal });
  const vector = change.vector ?? embedded?.vector;
  const values: EmbeddingChange = {
    ...change,
    vector: vector && encodeVector(vector),
  };
  return reservingLater(async (reserve) => {
    const write = async (client: Client, placed: Tables, store: OpenedStore) => {
      if (store.expired) throw vectorStoreExpired(storeId);
      if (embedded !== undefined) checkSameModel(embedded.store, store);
      if (vector !== undefined)
        checkDimensions(
          vector,
          store.dimensions,
          storeId,
          change.vector === undefined ? "content" : "embedding",
        );
      if (embedded !== undefined) checkModel(embedded.model, store);
      const updated = await updateEmbedding(client, placed, storeId, embeddingId, values);
      if (updated === undefined) {
        throw (await explainMissing(client, placed, storeId, embeddingId)) ?? conflict();
      }
      if (change.merge !== undefined)
        checkJson(writeMetadata(updated.metadata ?? {}, "metadata"), "metadata_merge");
      const addition = {
        rows: 0,
        bytes: updated.bytesAdded,
        dimensions: store.dimensions ?? updated.dimensions,
        embeddingModel: embedded?.model ?? null,
      };
      await reserve?.(client, tables, storeId, addition);
      return { result: updated, closing: countAdditionStatement(tables, storeId, addition, true) };
    };
    return writeStoreFramed(pool, tables, storeId, write, { lockRow: true, signal });
  });
}

/** Embeds a new text, after a look whether there is an embedding to change: so no provider is paid for nothing. */
async function embedContent(
  { pool, tables }: Database,
  embedder: Embedder,
  content: string,
  { storeId, embeddingId, payer, signal }: Addressing,
): Promise<{ vector: Float32Array; model: string; store: VectorStoreRow }> {
  const store = await requireActiveStore(pool, tables, storeId);
  const chosen = chooseEmbedder(embedder, store);
  const refusal = await readPlaced(pool, tables, store, (client, placed) =>
    explainMissing(client, placed, storeId, embeddingId),
  );
  if (refusal !== undefined) throw refusal;
  const { vectors } = await chosen.embed([content], signal, "bounded", payer);
  return { vector: vectors[0] as Float32Array, model: chosen.model, store };
}

/** Why an embedding cannot be changed: it does not exist, or is a chunk of a file. Undefined: it can. */
async function explainMissing(
  client: Client,
  placed: Tables,
  storeId: string,
  embeddingId: string,
): Promise<Error | undefined> {
  const fileId = await findFileOf(client, placed, storeId, embeddingId);
  if (fileId === undefined) return embeddingNotFound(storeId, embeddingId);
  return fileId === null ? undefined : embeddingOfFile(embeddingId, fileId);
}
