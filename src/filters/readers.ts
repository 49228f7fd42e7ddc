import type { Tables } from "../postgres/tables.ts";
import { compileFilter, type Filter } from "./sql.ts";

/** The metadata key with the readers of a row: a list of texts. */
export const READERS_KEY = "readers";

/** Who asks, as rows name their readers; undefined: the service itself, which may read everything. */
export type Readers = ReadonlySet<string> | undefined;

/** The condition that a row names one of the readers. A row that names none is for none of them. */
export function readersFilter(readers: Iterable<string>): Filter {
  return { type: "overlaps", key: READERS_KEY, values: [...readers] };
}

/**
 * Compiles the condition that the readers may read a row of a store, which `storeId` gives as SQL: the store does not
 * restrict its readers, or the row names one of them. It reads the store's row in the same snapshot as the rows.
 */
export function compileReaders(
  tables: Tables,
  storeId: string,
  readers: Readers,
  column: string,
  params: unknown[],
): string {
  if (readers === undefined) return "true";
  const isOpen = `(select not restricts_readers from ${tables.vectorStores} as reading where reading.id = ${storeId})`;
  return `(${isOpen} or ${compileFilter(readersFilter(readers), column, params)})`;
}

/** The same as a condition of `listEmbeddings` and `findEmbedding`, whose first parameter is the store's id. */
export function visibleTo(readers: Readers): ((tables: Tables, params: unknown[]) => string) | undefined {
  if (readers === undefined) return undefined;
  return (tables, params) => compileReaders(tables, "$1", readers, tables.metadata, params);
}

/** The condition that a row names one of the readers, for statements of `storage/embeddings.ts` and the like. */
export function namesReader(readers: ReadonlySet<string>): (tables: Tables, params: unknown[]) => string {
  return (tables, params) => compileFilter(readersFilter(readers), tables.metadata, params);
}

/** A filter, and that the readers may read: undefined when there is neither. */
export function restrictTo(filter: Filter | undefined, all: readonly Readers[]): Filter | undefined {
  const filters = [
    ...(filter === undefined ? [] : [filter]),
    ...all.filter((readers) => readers !== undefined).map(readersFilter),
  ];
  return filters.length <= 1 ? filters[0] : { type: "and", filters };
}
