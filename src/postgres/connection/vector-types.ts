import type pg from "pg";
import { registerTypes } from "pgvector/pg";

/**
 * Registers pgvector's types on a new connection: node-postgres then parses `vector` and `halfvec` to arrays
 * of numbers and `sparsevec` to SparseVector. Does nothing while the extension is not installed; the first
 * migration installs it.
 */
export async function registerVectorTypes(client: pg.ClientBase): Promise<void> {
  try {
    await registerTypes(client);
  } catch (error) {
    if (!(error instanceof Error && error.message === TYPE_MISSING)) throw error;
  }
}

/**
 * Hook for pg-pool's `onConnect` that registers the types. pg-pool awaits the promise, although its types say
 * void.
 */
export function onConnect(client: pg.ClientBase): unknown {
  return registerVectorTypes(client);
}

/** Message of the error that `registerTypes` throws when the extension is not installed. */
const TYPE_MISSING = "vector type not found in the database";
