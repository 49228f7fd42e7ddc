/** What an import reads from another product. */
export interface Source {
  /**
   * Rows in an order that is the same at every reading, as objects of `load`'s fields (id, content, embedding, metadata,
   * and others, which become metadata). A page at a time is held, never a collection.
   */
  rows: AsyncGenerator<Record<string, unknown>, void>;
  /** Number of rows, where the product says it. */
  total: number | undefined;
}

/** Rows of a page that is asked for: with vectors of 4,096 numbers in JSON some 10 MB. */
export const PAGE_ROWS = 200;

/** The one vector of a row, or of several the one that `name` picks. Throws when there is no choice, or no such one. */
export function pickVector(vectors: unknown, name: string | undefined): unknown {
  if (Array.isArray(vectors) || vectors === undefined || vectors === null) return vectors;
  const named = vectors as Record<string, unknown>;
  const names = Object.keys(named);
  if (name === undefined && names.length <= 1) return names[0] === undefined ? undefined : named[names[0]];
  if (name !== undefined && names.includes(name)) return named[name];
  throw new Error(`rows have the vectors ${names.join(", ")}: --vector picks one`);
}
