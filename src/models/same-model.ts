import type { Embedder } from "./embedder.ts";
import { conflict, failedPrecondition } from "../errors.ts";
import { localId } from "../store-id.ts";

type Store = { id: string; embedding_model: string | null };
type Vectors = Pick<Store, "embedding_model"> & { dimensions: number | null };

/**
 * Returns the embedder for a store: `embedder`, or that of its `former` ones whose model the store's vectors come from.
 * Throws EMBEDDING_MODEL_MISMATCH when they come from another model: vectors of two models cannot be compared. A store that
 * has only callers' vectors has no recorded model and accepts any.
 */
export function chooseEmbedder(embedder: Embedder, store: Store & Vectors): Embedder {
  if (store.embedding_model === null) return embedder;
  const ofModel: Embedder[] = [];
  for (let one: Embedder | undefined = embedder; one !== undefined; one = one.former)
    if (one.model === store.embedding_model) ofModel.push(one);
  // One model may be set twice, for vectors of different dimensions.
  const chosen = ofModel.find(({ dimensions }) => dimensions === store.dimensions) ?? ofModel[0];
  if (chosen === undefined) throw mismatch(embedder.model, store);
  return chosen;
}

/** Throws EMBEDDING_MODEL_MISMATCH when a store has vectors of another model than this. */
export function checkModel(model: string, store: Store): void {
  if (store.embedding_model !== null && store.embedding_model !== model) throw mismatch(model, store);
}

/**
 * Throws a conflict, which the caller may repeat, when a store has come to vectors of another model since its texts were
 * embedded: see src/vector-stores/reembedding/.
 */
export function checkSameModel(before: Vectors, now: Vectors): void {
  const isSame = before.embedding_model === now.embedding_model && before.dimensions === now.dimensions;
  if (before.embedding_model !== null && !isSame) throw conflict();
}

function mismatch(model: string, store: Store): Error {
  return failedPrecondition(
    "EMBEDDING_MODEL_MISMATCH",
    `Vector store '${localId(store.id)}' was embedded with model '${store.embedding_model}', but the service is set to '${model}' (EMBEDDING__MODEL). ` +
      "Vectors of two models cannot be compared: set EMBEDDING__FORMER__MODEL to the store's model beside the new one, set the model back, or create a new store.",
    "vector_store_id",
  );
}
