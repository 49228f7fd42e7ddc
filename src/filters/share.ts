import { toTime } from "./date.ts";
import type { Comparison, Filter, FilterValue } from "./sql.ts";
import { asksForWords } from "./words.ts";

/** A sampled value of a key; null: the row lacks the key. An object, which is there and equals nothing, is an empty list. */
export type SampledValue = FilterValue | null | readonly string[];

/** Sampled values by key, in the same order of rows for every key. Texts are cut to `SAMPLED_CHARS`. */
export type SampledColumns = ReadonlyMap<string, readonly SampledValue[]>;

/** Characters kept of a sampled text: enough to tell most texts apart, few enough to keep many samples. */
export const SAMPLED_CHARS = 32;

/**
 * Counts the sampled rows that match a filter. An estimate: unlike in SQL, texts are compared by UTF-16 units
 * and by their first characters only. A key without a column counts as missing in all rows.
 */
export function countMatches(filter: Filter, columns: SampledColumns, rows: number): number {
  const matches = compileMatcher(filter, columns);
  let count = 0;
  for (let row = 0; row < rows; row++) if (matches(row)) count++;
  return count;
}

/** The keys that a filter compares, each once. */
export function keysOf(filter: Filter): string[] {
  const keys = "filters" in filter ? filter.filters.flatMap(keysOf) : "key" in filter ? [filter.key] : [];
  return [...new Set(keys)];
}

/**
 * The weaker filter whose rows an index can collect: the conditions that an index serves, where the others
 * are checked row by row. Undefined: no index serves any part that every matching row must meet.
 */
export function indexablePart(
  filter: Filter,
  isIndexed: (comparison: Comparison) => boolean,
): Filter | undefined {
  if (!("filters" in filter)) return isIndexed(filter) ? filter : undefined;
  if (filter.type === "not") return undefined;
  const parts = filter.filters.map((part) => indexablePart(part, isIndexed));
  const indexed = parts.filter((part) => part !== undefined);
  if (indexed.length === 0 || (filter.type === "or" && indexed.length < parts.length)) return undefined;
  return { type: filter.type, filters: indexed };
}

type Matcher = (row: number) => boolean;

function compileMatcher(filter: Filter, columns: SampledColumns): Matcher {
  if ("filters" in filter) {
    const parts = filter.filters.map((part) => compileMatcher(part, columns));
    if (filter.type === "not")
      return asksForWords(filter) ? () => true : (row) => parts.every((matches) => !matches(row));
    return filter.type === "and"
      ? (row) => parts.every((matches) => matches(row))
      : (row) => parts.some((matches) => matches(row));
  }
  // Nothing is known of the words of texts. Where few rows have them, the limit on the walk bounds what that costs.
  if (filter.type === "text") return () => true;
  const column = columns.get(filter.key) ?? [];
  const valueOf = (row: number) => column[row] ?? null;
  if (filter.type === "overlaps") {
    const texts = new Set<string>(filter.values.map((text) => text.slice(0, SAMPLED_CHARS)));
    return (row) => {
      const list = valueOf(row);
      return Array.isArray(list) && list.some((text: string) => texts.has(text));
    };
  }
  if ("values" in filter) {
    const values = new Set<SampledValue>(filter.values.map(cut));
    const isMember = filter.type === "in";
    return (row) => values.has(valueOf(row)) === isMember;
  }
  if (filter.type === "exists") return (row) => (valueOf(row) !== null) === filter.isPresent;
  if (filter.type === "prefix" || filter.type === "suffix" || filter.type === "substring") {
    const matchesText = compileText(filter.type, filter.value);
    return (row) => {
      const text = valueOf(row);
      return typeof text === "string" && matchesText(text);
    };
  }
  const value = cut(filter.value);
  if (filter.type === "contains") {
    // Sampled lists have texts in place of their other items.
    const text = String(value);
    return (row) => {
      const list = valueOf(row);
      return Array.isArray(list) && list.includes(text);
    };
  }
  if ("as" in filter && filter.as === "date") {
    const [compareTimes, time] = [COMPARE[filter.type], toTime(filter.value)];
    return (row) => {
      const text = valueOf(row);
      return typeof text === "string" && compareTimes(toTime(text), time);
    };
  }
  if (filter.type === "eq") return (row) => valueOf(row) === value;
  if (filter.type === "ne") return (row) => valueOf(row) !== value;
  const compare = COMPARE[filter.type];
  return (row) => isOrdered(valueOf(row), value) && compare(valueOf(row) as FilterValue, value);
}

/** A condition on sampled texts. Of those that were cut the end is not known, and nothing is known of what follows. */
function compileText(type: "prefix" | "suffix" | "substring", part: string): (text: string) => boolean {
  if (type === "prefix") {
    const beginning = part.slice(0, SAMPLED_CHARS);
    return (text) => text.startsWith(beginning);
  }
  const isCut = (text: string) => text.length === SAMPLED_CHARS;
  if (type === "suffix") return (text) => isCut(text) || text.endsWith(part);
  return (text) => isCut(text) || text.includes(part);
}

const COMPARE: Record<"gt" | "gte" | "lt" | "lte", (a: FilterValue, b: FilterValue) => boolean> = {
  gt: (a, b) => a > b,
  gte: (a, b) => a >= b,
  lt: (a, b) => a < b,
  lte: (a, b) => a <= b,
};

/** Whether two values have an order: both are numbers, or both are texts. */
function isOrdered(a: SampledValue, b: FilterValue): boolean {
  return typeof a === typeof b && typeof b !== "boolean";
}

function cut(value: FilterValue): FilterValue {
  return typeof value === "string" ? value.slice(0, SAMPLED_CHARS) : value;
}
