import type { Client, Database } from "../../postgres/database.ts";
import { placeTables, type Tables } from "../../postgres/tables.ts";
import { readTransaction } from "../../postgres/transaction.ts";
import type { Precision } from "../../postgres/vector-index.ts";
import { bind, compileFilter } from "../../filters/sql.ts";
import { RECALL_RESULTS } from "../../storage/recall.ts";
import { selectNearest, type SearchIndex } from "../nearest.ts";
import { EF_LADDER } from "./curve.ts";
import type { SampledQuery } from "./waiting-queries.ts";

/** What a query is compared in. */
export interface Compared {
  own_table: string | null;
  index: { precision: Precision; dimensions: number; visitsMax: number | undefined };
  /** The `ef_search` of the store's searches. */
  efSearch: number;
  /** Statement timeout of the exact search. */
  timeoutMs: number;
}

/**
 * Compares the index's answers to a query with that of an exact search, all in one snapshot: returns the recall for
 * each value of the ladder from the least on. The values after `efSearch` that follow one with recall 1 are left out.
 * Undefined: the query has no answer to compare with. Throws when the exact search takes too long.
 */
export async function compareQuery(
  { pool, tables, searchSettings = {} }: Database,
  { own_table, index, efSearch, timeoutMs }: Compared,
  query: SampledQuery,
  signal: AbortSignal,
): Promise<number[] | undefined> {
  const placed = placeTables(tables, { own_table });
  return readTransaction(
    pool,
    async (client) => {
      const settings = {
        ...searchSettings,
        statement_timeout: timeoutMs,
        // One core at most.
        max_parallel_workers_per_gather: 0,
      };
      await client.query(
        [
          "set transaction isolation level repeatable read, read only",
          ...Object.entries(settings).map(([name, value]) => `set local ${name} = '${value}'`),
        ].join("; "),
      );
      const nearest = await findDistances(client, placed, query, undefined, {});
      const farthest = nearest.at(-1);
      if (farthest === undefined || Number.isNaN(farthest)) return undefined;
      const recalls: number[] = [];
      for (const step of EF_LADDER) {
        const found = await findDistances(client, placed, query, index, { "hnsw.ef_search": step });
        // An exact search follows an index search with too few results.
        const isShort = found.length < nearest.length;
        // By distance, not by id: of rows at equal distances any will do.
        const hits = found.filter((distance) => distance <= farthest).length;
        const recall = isShort ? 1 : hits / nearest.length;
        recalls.push(recall);
        if (recall === 1 && step >= efSearch) break;
      }
      return recalls;
    },
    signal,
  );
}

/** The distances of the nearest rows; an exact search without an index. */
async function findDistances(
  client: Client,
  tables: Tables,
  { vector, filter }: SampledQuery,
  index: SearchIndex | undefined,
  settings: Record<string, number>,
): Promise<number[]> {
  const params: unknown[] = [];
  const nearest = {
    condition: filter === undefined ? "true" : compileFilter(filter, tables.metadata, params),
    isFiltered: filter !== undefined,
    rowsMax: RECALL_RESULTS,
    index,
    scan: {
      ...settings,
      ...(index?.visitsMax !== undefined && { "hnsw.max_scan_tuples": index.visitsMax }),
    },
  };
  const select = selectNearest(tables, [tables.id], bind(params, vector, "vector"), nearest, params);
  const { rows } = await client.query<{ distance: number }>(
    `select distance from (${select}) nearest`,
    params,
  );
  return rows.map(({ distance }) => distance).toSorted((a, b) => a - b);
}
