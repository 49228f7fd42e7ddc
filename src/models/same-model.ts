import type { Embedder } from "./embedder.ts";
import { failedPrecondition } from "../errors.ts";
import { localId } from "../store-id.ts";

type Store = { id: string; embedding_model: string | null };

/**
 * Returns the embedder for a store: `embedder`, or its `former` where the store's vectors come from that. Throws
 * EMBEDDING_MODEL_MISMATCH when they come from another model: vectors of two models cannot be compared. A store that has
 * only callers' vectors has no recorded model and accepts any.
 */
export function chooseEmbedder(embedder: Embedder, store: Store): Embedder {
  const { former } = embedder;
  if (former !== undefined && store.embedding_model === former.model) return former;
  checkModel(embedder.model, store);
  return embedder;
}

/** Throws EMBEDDING_MODEL_MISMATCH when a store has vectors of another model than this. */
export function checkModel(model: string, store: Store): void {
  if (store.embedding_model === null || store.embedding_model === model) return;
  throw failedPrecondition(
    "EMBEDDING_MODEL_MISMATCH",
    `Vector store '${localId(store.id)}' was embedded with model '${store.embedding_model}', but the service is set to '${model}' (EMBEDDING__MODEL). ` +
      "Vectors of two models cannot be compared: set the model back, or create a new store.",
    "vector_store_id",
  );
}
