import { selectAttributeIndexes, type Attribute, type AttributeIndex } from "../filters/attribute-index.ts";
import { limits } from "../limits.ts";
import type { NodeShare } from "../postgres/citus/nodes.ts";
import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import type { Precision } from "../postgres/vector-index.ts";
import { RECALL_IN_USE, type RecallRecord } from "../storage/recall.ts";
import type { Plan, VectorIndex } from "./plan.ts";

/** The state of a store's index, as the API reports it. */
export interface IndexStatus {
  index_policy: NonNullable<Plan["index_policy"]>;
  index_state: NonNullable<Plan["index_state"]>;
  /**
   * The part of the copy or of the index build that is done, 0 to 1; null when neither runs or the total is
   * unknown.
   */
  progress: number | null;
  /** What is done at the moment, of how many; null when nothing is. */
  work: { phase: string; unit: "rows" | "blocks" | "tuples"; done: number; total: number } | null;
  /** Whether the worker has something to do for the store. */
  is_due: boolean;
  /**
   * Bigints, as decimal text: rows of the store, bytes of the current index, bytes of the own table without
   * that index, and of the table's indexes that are not vector indexes.
   */
  rows: string;
  index_bytes: string;
  table_bytes: string;
  other_index_bytes: string;
  /** The store's own table, not quoted; null while its rows are in the shared one. */
  own_table: string | null;
  /** The index that searches use; null when there is none. */
  current_index: VectorIndex | null;
  last_error: string | null;
  /** The requested build parameters, for the next build; precision null: chosen by the dimensions. */
  requested_precision: Precision | null;
  requested_m: number;
  requested_ef_construction: number;
  /** Process id of the session that builds the index, while it waits for other transactions. */
  waiting_pid: number | null;
  /** The declared attributes, and the attribute indexes that exist. */
  attributes: Attribute[];
  attribute_indexes: AttributeIndex[];
  /** The recall that is asked of the index, and what was measured of it; null: nothing. */
  target_recall: number;
  recall: RecallRecord | null;
  /** Whether the own table keeps the words of the texts, or is to keep them. */
  keyword_index: boolean;
  /** The nodes of a cluster that hold the own table's shards: see `addShards`. */
  nodes: NodeShare[];
}

/** Reads the state of a store's index; undefined when the store does not exist. */
export async function findStatus(
  client: Queryable,
  tables: Tables,
  storeId: string,
): Promise<IndexStatus | undefined> {
  const result = await client.query<IndexStatus>(
    `select store.index_policy, store.index_state, store.embedding_count as rows, store.own_table, plan.current_index,
       coalesce(pg_relation_size(index.oid), 0) as index_bytes,
       coalesce(pg_total_relation_size(own.oid) - coalesce(pg_relation_size(index.oid), 0), 0) as table_bytes,
       coalesce((select sum(pg_relation_size(indexrelid)) from pg_index join pg_class on pg_class.oid = indexrelid join pg_am on pg_am.oid = relam
         where indrelid = own.oid and amname <> 'hnsw'), 0) as other_index_bytes,
       case when plan.phase = 'copying' then least(1, plan.copied_rows / nullif(store.embedding_count, 0)::float8)
         when building.phase like 'building index%' then building.blocks_done / nullif(building.blocks_total, 0)::float8
       end as progress,
       case when plan.phase = 'copying' then jsonb_build_object('phase', 'copying rows', 'unit', 'rows', 'done', plan.copied_rows, 'total', store.embedding_count)
         when building.blocks_total > 0 then jsonb_build_object('phase', building.phase, 'unit', 'blocks', 'done', building.blocks_done, 'total', building.blocks_total)
         when building.phase is not null then jsonb_build_object('phase', building.phase, 'unit', 'tuples', 'done', building.tuples_done, 'total', building.tuples_total)
       end as work, coalesce(plan.due, false) as is_due,
       plan.last_error, store.precision as requested_precision,
       coalesce(plan.m, $2) as requested_m, coalesce(plan.ef_construction, $3) as requested_ef_construction,
       case when building.phase like 'waiting%' then building.pid end as waiting_pid,
       coalesce(plan.attributes, '[]') as attributes, (${selectAttributeIndexes("store.own_table")}) as attribute_indexes,
       coalesce(plan.target_recall, $4) as target_recall, coalesce(plan.keyword_index, true) as keyword_index, ${RECALL_IN_USE} as recall,
       '[]'::jsonb as nodes
     from ${tables.vectorStores} as store
     left join ${tables.indexes} as plan on plan.vector_store_id = store.id
     left join pg_class as own on own.oid = to_regclass(quote_ident(store.own_table))
     left join pg_class as index on index.oid = to_regclass(quote_ident(plan.current_index ->> 'name'))
     left join pg_stat_progress_create_index as building on building.relid = own.oid and building.datname = current_database()
     where store.id = $1`,
    [storeId, limits.index_m_default, limits.index_ef_construction_default, limits.target_recall_default],
  );
  return result.rows[0];
}
