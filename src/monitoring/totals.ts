import { limits } from "../limits.ts";
import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { RECALL_IN_USE, type SearchKind } from "../storage/recall.ts";

/** Totals over all stores of the database. */
export interface Totals {
  /** Stores, by the state of their index. */
  stores: Record<string, number>;
  /** Embeddings in all stores. */
  embeddings: number;
  /** UTF-8 bytes of their text. */
  usageBytes: number;
  /** Files of stores that are still to be processed. */
  filesInProgress: number;
  /** Builds of vector indexes under way. */
  indexBuilds: number;
  /**
   * Progress, 0 to 1, of the build that is least far; undefined: no build is running, or its total is unknown
   * yet.
   */
  indexProgress: number | undefined;
  /** The lowest recall that was measured of the index of any store, by kind of search; absent: nothing was measured. */
  lowestRecall: Partial<Record<SearchKind, number>>;
  /** Stores of which less was measured than is asked. */
  belowTarget: number;
}

interface TotalsRow {
  stores: Record<string, number>;
  embeddings: number;
  usage_bytes: number;
  files_in_progress: number;
  index_builds: number;
  index_progress: number | null;
  lowest_recall: Partial<Record<SearchKind, number>>;
  below_target: number;
}

/**
 * Queries the totals. Scans the stores' rows (some milliseconds for 10,000) and the files in progress, but no
 * embeddings: their number comes from the stores' counters.
 */
export async function readTotals(client: Queryable, tables: Tables): Promise<Totals> {
  const { rows } = await client.query<TotalsRow>(
    `with states as (
       select index_state, count(*) as stores, sum(embedding_count) as embeddings, sum(usage_bytes) as usage_bytes
       from ${tables.vectorStores} group by index_state
     ), builds as (
       select build.blocks_done / nullif(build.blocks_total, 0)::float8 as progress
       from pg_stat_progress_create_index as build
       join pg_class as own on own.oid = build.relid and build.datname = current_database()
       join ${tables.indexes} as plan on plan.own_table = own.relname
     ), measured as (
       select number, kind.key as kind, (kind.value ->> 'recall')::float8 as recall, coalesce(plan.target_recall, $1) as target
       from ${tables.indexes} as plan, jsonb_each((${RECALL_IN_USE}) - 'index') as kind where plan.recall is not null
     ), lowest as (
       select kind, min(recall) as recall from measured group by kind
     )
     select coalesce((select jsonb_object_agg(index_state, stores) from states), '{}') as stores,
       coalesce((select sum(embeddings) from states), 0)::float8 as embeddings,
       coalesce((select sum(usage_bytes) from states), 0)::float8 as usage_bytes,
       (select count(*) from ${tables.vectorStoreFiles} where status = 'in_progress')::float8 as files_in_progress,
       (select count(*) from builds)::int as index_builds,
       (select min(progress) from builds) as index_progress,
       coalesce((select jsonb_object_agg(kind, recall) from lowest), '{}') as lowest_recall,
       (select count(distinct number) from measured where recall < target)::int as below_target`,
    [limits.target_recall_default],
  );
  const [row] = rows as [TotalsRow];
  return {
    stores: row.stores,
    embeddings: row.embeddings,
    usageBytes: row.usage_bytes,
    filesInProgress: row.files_in_progress,
    indexBuilds: row.index_builds,
    indexProgress: row.index_progress ?? undefined,
    lowestRecall: row.lowest_recall,
    belowTarget: row.below_target,
  };
}
