import type pg from "pg";
import { registerTypes } from "pgvector/pg";

/**
 * Registers pgvector's types on a new connection, so that a `vector` or `halfvec` selected as text is read as an array
 * of numbers and a `sparsevec` as a SparseVector. In a database that has no pgvector yet, which the first migration
 * creates, nothing is registered.
 */
export async function registerVectorTypes(client: pg.ClientBase): Promise<void> {
  try {
    await registerTypes(client);
  } catch (error) {
    if (!(error instanceof Error && error.message === TYPE_MISSING)) throw error;
  }
}

/** Registers the types on each new connection of a pool. pg-pool awaits the result, although its types say void. */
export function onConnect(client: pg.ClientBase): unknown {
  return registerVectorTypes(client);
}

/** What `registerTypes` throws in a database without pgvector. */
const TYPE_MISSING = "vector type not found in the database";
