import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { defaultPrecision, type Precision } from "../postgres/vector-index.ts";

/** What a vector index is made of. */
export interface Design {
  precision: Precision;
  /** HNSW's m and ef_construction. */
  m: number;
  ef_construction: number;
}

/** A vector index that is there or being built. */
export interface VectorIndex extends Design {
  /** Its name, not quoted. */
  name: string;
  /** ISO 8601; once it is in use. */
  built_at?: string;
}

/** Everything that decides what is to be done for a store: its row in the catalog joined to its own. */
export interface Plan {
  number: string;
  vector_store_id: string | null;
  own_table: string | null;
  phase: "shared" | "copying" | "following" | "cleaning" | "settled";
  copied_through: string | null;
  changed_since: string | null;
  /**
   * Whether the changes since the copy began can no longer be told: so many transactions have passed, or they are
   * another server's, from whose dump the copy was restored.
   */
  is_stale: boolean;
  m: number;
  ef_construction: number;
  current_index: VectorIndex | null;
  next_index: VectorIndex | null;
  rebuild: boolean;
  /** Milliseconds since it fell due. */
  due_ms: number;
  /** Milliseconds since a bulk ingest into the store that is not complete was last moved on; null: there is none. */
  ingest_ms: number | null;
  /** These are the store's; all null when it is gone. */
  id: string | null;
  dimensions: number | null;
  /** A bigint, as text. */
  embedding_count: string | null;
  precision: Precision | null;
  language: string | null;
  index_policy: "auto" | "always" | "never" | null;
  index_state: "none" | "waiting" | "moving" | "building" | "ready" | "failed" | null;
}

/** Half of what 32 bits tell apart, with room to spare: two numbers of transactions further apart compare wrongly. */
const TRANSACTIONS_MAX = 1_000_000_000;

/** Reads what is to be decided about; undefined when it is no longer in the catalog. */
export async function findPlan(client: Queryable, tables: Tables, number: string): Promise<Plan | undefined> {
  const result = await client.query<Plan>(
    `select plan.number, plan.vector_store_id, plan.own_table, plan.phase, plan.copied_through,
       plan.changed_since::text as changed_since,
       coalesce(pg_snapshot_xmin(pg_current_snapshot())::text::bigint - plan.changed_since::text::bigint not between 0 and ${TRANSACTIONS_MAX}, false)
         or plan.table_oid is distinct from to_regclass(quote_ident(plan.own_table))::oid as is_stale,
       plan.m, plan.ef_construction, plan.current_index, plan.next_index, plan.rebuild,
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
 * Reads a plan for a transaction that acts on it: the store cannot be deleted until its end. Undefined when the store
 * is gone or has come to another phase, so that there is something else to do. The plan's row is locked before the
 * store's, here and everywhere.
 */
export async function lockPlan(client: Queryable, tables: Tables, plan: Plan): Promise<Plan | undefined> {
  await client.query(`select 1 from ${tables.indexes} where number = $1 for update`, [plan.number]);
  await client.query(`select 1 from ${tables.vectorStores} where id = $1 for key share`, [plan.id]);
  const locked = await findPlan(client, tables, plan.number);
  return locked?.id === plan.id && locked.phase === plan.phase ? locked : undefined;
}

/** What may be changed in the catalog. */
type Change = Partial<
  Pick<
    Plan,
    "own_table" | "phase" | "copied_through" | "changed_since" | "current_index" | "next_index" | "rebuild"
  > & { attempts: number; last_error: string | null; due: boolean; copied_rows: number; table_oid: string }
>;

/** Changes a plan. */
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

/** Changes what a store's own row says of its index. */
export async function updateStore(
  client: Queryable,
  tables: Tables,
  { id }: Plan,
  change: {
    index_state?: Plan["index_state"];
    own_table?: string;
    language?: string;
    index_precision?: Precision | null;
  },
): Promise<void> {
  const columns = Object.keys(change);
  await client.query(
    `update ${tables.vectorStores} set ${columns.map((column, index) => `${column} = $${index + 2}`).join(", ")}
     where id = $1`,
    [id, ...Object.values(change)],
  );
}

/** What the index of a store is to be made of. Only for a store that has dimensions. */
export function designOf(plan: Pick<Plan, "m" | "ef_construction" | "dimensions" | "precision">): Design {
  const { m, ef_construction, dimensions } = plan;
  return { precision: plan.precision ?? defaultPrecision(dimensions ?? 0), m, ef_construction };
}

/** Whether two designs are the same. */
export function isSameDesign(a: Design, b: Design): boolean {
  return a.precision === b.precision && a.m === b.m && a.ef_construction === b.ef_construction;
}
