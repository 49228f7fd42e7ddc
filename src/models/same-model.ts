import type { Embedder } from "./embedder.ts";
import { failedPrecondition } from "../errors.ts";
import { localId } from "../store-id.ts";

/**
 * Throws EMBEDDING_MODEL_MISMATCH when a store's vectors come from another model: vectors of two models
 * cannot be compared. A store that has only callers' vectors has no recorded model and accepts any.
 */
export function checkModel(embedder: Embedder, store: { id: string; embedding_model: string | null }): void {
  if (store.embedding_model === null || store.embedding_model === embedder.model) return;
  throw failedPrecondition(
    "EMBEDDING_MODEL_MISMATCH",
    `Vector store '${localId(store.id)}' was embedded with model '${store.embedding_model}', but the service is set to '${embedder.model}' (EMBEDDING__MODEL). ` +
      "Vectors of two models cannot be compared: set the model back, or create a new store.",
    "vector_store_id",
  );
}
