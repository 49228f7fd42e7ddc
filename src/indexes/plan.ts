import { selectAttributeIndexes, type Attribute, type AttributeIndex } from "../filters/attribute-index.ts";
import type { Database, Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";
import { defaultPrecision, type Precision } from "../postgres/vector-index.ts";

/** Build parameters of a vector index. */
export interface Design {
  precision: Precision;
  /**
   * HNSW's m (links per node) and ef_construction (candidate list during the build); ranges in `limits.ts`.
   */
  m: number;
  ef_construction: number;
}

/** A vector index that exists or is being built. */
export interface VectorIndex extends Design {
  /** Name of the index in Postgres, not quoted. */
  name: string;
  /** ISO 8601 time at which searches began to use the index; absent while it is being built. */
  built_at?: string;
}

/**
 * Everything that decides the next step for a store: its row in the catalog (`indexes`) joined to its
 * `vector_stores` row.
 */
export interface Plan {
  number: string;
  vector_store_id: string | null;
  own_table: string | null;
  phase: "shared" | "copying" | "following" | "cleaning" | "settled";
  copied_through: string | null;
  changed_since: string | null;
  /**
   * Whether `changed_since` no longer tells which rows have changed, so that the copy must be made again:
   * more than `TRANSACTIONS_MAX` transaction ids were used since (xid wraparound), or the database was
   * restored from a dump and the id is another server's (the own table's oid differs from `table_oid`, or the
   * id lies in the future).
   */
  is_stale: boolean;
  m: number;
  ef_construction: number;
  current_index: VectorIndex | null;
  next_index: VectorIndex | null;
  rebuild: boolean;
  /** Whether the own table is to keep the words of the texts. */
  keyword_index: boolean;
  /** The attributes that are to have an index. */
  attributes: Attribute[];
  /** The attribute indexes that the own table has. */
  attribute_indexes: AttributeIndex[];
  /** Milliseconds since the store became due for work. */
  due_ms: number;
  /** Milliseconds since an open bulk ingest into the store last made progress; null: no ingest is open. */
  ingest_ms: number | null;
  /** From here on columns of `vector_stores`; all null once the store is deleted. */
  id: string | null;
  dimensions: number | null;
  /** A bigint, as text. */
  embedding_count: string | null;
  precision: Precision | null;
  language: string | null;
  index_policy: "auto" | "always" | "never" | null;
  index_state: "none" | "waiting" | "moving" | "building" | "ready" | "failed" | null;
}

/**
 * A row's xmin is a 32-bit transaction id, and two ids that are 2^31 or more apart compare in the wrong
 * order. Half of 2^31, rounded down, leaves a margin.
 */
const TRANSACTIONS_MAX = 1_000_000_000;

/** Reads a plan by its catalog number; undefined when the catalog has no such row. */
export async function findPlan(client: Queryable, tables: Tables, number: string): Promise<Plan | undefined> {
  const result = await client.query<Plan>(
    `select plan.number, plan.vector_store_id, plan.own_table, plan.phase, plan.copied_through,
       plan.changed_since::text as changed_since,
       coalesce(pg_snapshot_xmin(pg_current_snapshot())::text::bigint - plan.changed_since::text::bigint not between 0 and ${TRANSACTIONS_MAX}, false)
         or plan.table_oid is distinct from to_regclass(quote_ident(plan.own_table))::oid as is_stale,
       plan.m, plan.ef_construction, plan.current_index, plan.next_index, plan.rebuild,
       plan.keyword_index, plan.attributes, (${selectAttributeIndexes("plan.own_table")}) as attribute_indexes,
       (extract(epoch from now() - plan.due_since) * 1000)::float8 as due_ms,
       (select (extract(epoch from now() - max(updated_at)) * 1000)::float8 from ${tables.ingests} as ingest
        where ingest.vector_store_id = plan.vector_store_id and ingest.state = 'open') as ingest_ms,
       store.id, store.dimensions, store.embedding_count, store.precision, store.language, store.index_policy, store.index_state
     from ${tables.indexes} as plan left join ${tables.vectorStores} as store on store.id = plan.vector_store_id
     where plan.number = $1`,
    [number],
  );
  return result.rows[0];
}

/**
 * Reads a plan again under row locks, for a transaction that acts on the plan: the store cannot be deleted
 * before the transaction ends. Undefined when the store was deleted or its phase has changed since, so that
 * another step is due. Lock order, here and everywhere, to avoid deadlocks: the plan's row first, then the
 * store's.
 */
export async function lockPlan(client: Queryable, tables: Tables, plan: Plan): Promise<Plan | undefined> {
  await client.query(`select 1 from ${tables.indexes} where number = $1 for update`, [plan.number]);
  await client.query(`select 1 from ${tables.vectorStores} where id = $1 for key share`, [plan.id]);
  const locked = await findPlan(client, tables, plan.number);
  return locked?.id === plan.id && locked.phase === plan.phase ? locked : undefined;
}

/** The catalog columns that `updatePlan` may set. */
type Change = Partial<
  Pick<
    Plan,
    "own_table" | "phase" | "copied_through" | "changed_since" | "current_index" | "next_index" | "rebuild"
  > & { attempts: number; last_error: string | null; due: boolean; copied_rows: number; table_oid: string }
>;

/** Sets columns of a plan's catalog row; absent keys stay as they are. */
export async function updatePlan(
  client: Queryable,
  tables: Tables,
  { number }: Plan,
  change: Change,
): Promise<void> {
  const columns = Object.keys(change);
  await client.query(
    `update ${tables.indexes} set ${columns.map((column, index) => `${column} = $${index + 2}`).join(", ")}
     where number = $1`,
    [number, ...Object.values(change)],
  );
}

/**
 * Sets the columns of the `vector_stores` row that describe the store's index; absent keys stay as they are.
 */
export async function updateStoreIndex(
  client: Queryable,
  tables: Tables,
  { id }: Plan,
  change: {
    index_state?: Plan["index_state"];
    own_table?: string;
    language?: string;
    has_words?: boolean;
    index_precision?: Precision | null;
    ef_search?: null;
    filtered_ef_search?: null;
  },
): Promise<void> {
  const columns = Object.keys(change);
  await client.query(
    `update ${tables.vectorStores} set ${columns.map((column, index) => `${column} = $${index + 2}`).join(", ")}
     where id = $1`,
    [id, ...Object.values(change)],
  );
}

/** The build parameters requested for a store's index. Requires that the store's `dimensions` are set. */
export function designOf(plan: Pick<Plan, "m" | "ef_construction" | "dimensions" | "precision">): Design {
  const { m, ef_construction, dimensions } = plan;
  return { precision: plan.precision ?? defaultPrecision(dimensions ?? 0), m, ef_construction };
}

/** Whether two designs are equal. */
export function isSameDesign(a: Design, b: Design): boolean {
  return a.precision === b.precision && a.m === b.m && a.ef_construction === b.ef_construction;
}

/**
 * Ends the postponement of a store whose bulk ingest has ended; the backoff of a failure remains. Not to be called in
 * a transaction that has locked the store: the worker locks the plan first.
 */
export async function endPostponement({ pool, tables }: Database, storeId: string): Promise<void> {
  // Without a condition on `retry_at`, so that the statement waits for a worker that is about to set it.
  await transaction(pool, (client) =>
    client.query(
      `update ${tables.indexes} set retry_at = null where vector_store_id = $1 and due and attempts = 0`,
      [storeId],
    ),
  );
}
