import type pg from "pg";
import { limits } from "../limits.ts";
import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";
import type { SearchedStore } from "./stores.ts";

/** Searches by a vector index, by whether they have a filter: an index scan under a filter has a recall of its own. */
export type SearchKind = "unfiltered" | "filtered";

/** Number of results for which recall is asked and measured. */
export const RECALL_RESULTS = 10;

/** What was measured of the searches of one kind. */
export interface RecallMeasurement {
  /** Mean share of the true nearest rows that searches find with `ef_search`, 0 to 1. */
  recall: number;
  ef_search: number;
  /** Number of queries that were compared. */
  queries: number;
  /** The recall that was asked for. */
  target: number;
  /** ISO 8601. */
  measured_at: string;
}

/** The column `recall` of a store's catalog row. */
export interface RecallRecord {
  /** Name of the index that was measured: the record says nothing of any other. */
  index: string;
  unfiltered?: RecallMeasurement;
  filtered?: RecallMeasurement;
}

/** A store with an index, and what is asked and known of the index's recall. */
export type MeasurableStore = SearchedStore & {
  /** Rows of the store: a bigint, as decimal text. */
  embedding_count: string;
  /** Name of the index in use. */
  index: string;
  target_recall: number;
  /** Null: nothing was measured of the index in use. */
  recall: RecallRecord | null;
};

/** The SQL of a plan's record, null when the record is of another index than the one in use. */
export const RECALL_IN_USE =
  "case when plan.recall ->> 'index' = plan.current_index ->> 'name' then plan.recall end";

/** Reads what is known of a store's recall; undefined when the store has no index in use. */
export async function findMeasurable(
  client: Queryable,
  tables: Tables,
  storeId: string,
): Promise<MeasurableStore | undefined> {
  const { rows } = await client.query<MeasurableStore>(
    `select store.id, dimensions, embedding_model, language, store.own_table, has_words, index_precision, ef_search, filtered_ef_search, restricts_readers,
       embedding_count, plan.current_index ->> 'name' as index, coalesce(plan.target_recall, $2) as target_recall,
       ${RECALL_IN_USE} as recall
     from ${tables.vectorStores} as store join ${tables.indexes} as plan on plan.vector_store_id = store.id
     where store.id = $1 and index_precision is not null and plan.current_index is not null`,
    [storeId, limits.target_recall_default],
  );
  return rows[0];
}

/**
 * Records a measurement of the store's index and, unless `efSearch` is undefined, makes the store's searches of
 * this kind use that `ef_search`. False when another index is in use by now, or one of the rows is locked: an ingest
 * may hold the lock of the store's row for long.
 */
export async function recordRecall(
  pool: pg.Pool,
  tables: Tables,
  { id, index }: Pick<MeasurableStore, "id" | "index">,
  kind: SearchKind,
  measurement: RecallMeasurement,
  efSearch: number | undefined,
): Promise<boolean> {
  return transaction(pool, async (client) => {
    const plan = await client.query(
      `select 1 from ${tables.indexes} where vector_store_id = $1 and current_index ->> 'name' = $2 for update skip locked`,
      [id, index],
    );
    if (plan.rowCount === 0) return false;
    if (efSearch !== undefined) {
      const column = kind === "unfiltered" ? "ef_search" : "filtered_ef_search";
      const store = await client.query(
        `update ${tables.vectorStores} set ${column} = $2
         where id = (select id from ${tables.vectorStores} where id = $1 for no key update skip locked)`,
        [id, efSearch],
      );
      if (store.rowCount === 0) return false;
    }
    await client.query(
      `update ${tables.indexes} set recall = case when recall ->> 'index' = $2 then recall else '{}' end
         || jsonb_build_object('index', $2::text, $3::text, $4::jsonb)
       where vector_store_id = $1`,
      [id, index, kind, JSON.stringify(measurement)],
    );
    return true;
  });
}
