import { estimateJsonLength } from "../../api/json-length.ts";
import { limits } from "../../limits.ts";
import type { Filter } from "../../filters/sql.ts";
import type { SearchKind } from "../../storage/recall.ts";

/** A query that a store was searched for. Its text, if it had one, is not kept. */
export interface SampledQuery {
  /** In pgvector's binary format. */
  vector: Buffer;
  filter: Filter | undefined;
}

/** The searches of one kind in one store. */
export interface Searches {
  storeId: string;
  kind: SearchKind;
}

/** Queries kept of the searches of one kind in one store. */
const RESERVOIR = 4;
/** Length of a filter as JSON, from which on the query is not kept. */
const FILTER_CHARS_MAX = 2_000;

interface Reservoir {
  searches: Searches;
  queries: (SampledQuery & { bytes: number })[];
  /** Queries seen since one was last taken. */
  seen: number;
}

/**
 * A random sample of the queries of each store, in memory, which wait to be compared with an exact search. Stores take
 * turns. The queries together are bounded in bytes: while they take as many, none is added.
 */
export class WaitingQueries {
  /** Taken from in the order of insertion. */
  readonly #reservoirs = new Map<string, Reservoir>();
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number = limits.sampled_queries_bytes_max) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes of the queries kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Keeps the query or not: each of a store's queries since one was last taken has the same chance (algorithm R). */
  add(searches: Searches, { vector, filter }: SampledQuery): void {
    const name = nameOf(searches);
    const reservoir = this.#reservoirs.get(name) ?? { searches, queries: [], seen: 0 };
    const { queries } = reservoir;
    reservoir.seen += 1;
    const place = queries.length < RESERVOIR ? queries.length : Math.floor(Math.random() * reservoir.seen);
    if (place >= RESERVOIR) return;
    const filterChars = filter === undefined ? 0 : estimateJsonLength(filter, FILTER_CHARS_MAX);
    const bytes = vector.length + 2 * filterChars;
    const added = bytes - (queries[place]?.bytes ?? 0);
    if (filterChars > FILTER_CHARS_MAX || this.#bytes + added > this.#bytesMax) return;
    this.#bytes += added;
    // A copy: the vector may be part of a larger buffer.
    queries[place] = { vector: Buffer.from(vector), filter, bytes };
    this.#reservoirs.set(name, reservoir);
  }

  /** Takes a query of the store whose turn it is; undefined when none waits. */
  take(): { searches: Searches; query: SampledQuery } | undefined {
    const [reservoir] = this.#reservoirs.values();
    const query = reservoir?.queries.pop();
    if (reservoir === undefined || query === undefined) return undefined;
    const { searches, queries } = reservoir;
    this.#bytes -= query.bytes;
    this.#reservoirs.delete(nameOf(searches));
    if (queries.length > 0)
      this.#reservoirs.set(nameOf(searches), { searches, queries, seen: queries.length });
    return { searches, query };
  }

  /** Drops the queries of these searches. */
  drop(searches: Searches): void {
    for (const { bytes } of this.#reservoirs.get(nameOf(searches))?.queries ?? []) this.#bytes -= bytes;
    this.#reservoirs.delete(nameOf(searches));
  }
}

/** A name that differs for different searches. */
export function nameOf({ storeId, kind }: Searches): string {
  return `${kind} ${storeId}`;
}
