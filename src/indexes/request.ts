import type { Client } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { designOf, isSameDesign, type Plan } from "./plan.ts";

/** The requested policy and build parameters of a store's index, and the index in use. */
export type IndexRequest = Pick<
  Plan,
  | "dimensions"
  | "precision"
  | "m"
  | "ef_construction"
  | "current_index"
  | "attributes"
  | "keyword_index"
  | "own_table"
> & {
  index_policy: NonNullable<Plan["index_policy"]>;
  /** Null: the default. */
  target_recall: number | null;
};

/**
 * Reads what has been requested for a store's index and locks its catalog and store rows until the
 * transaction ends. Creates the catalog row if it is missing. Undefined when the store does not exist or has
 * expired.
 */
export async function lockRequest(
  client: Client,
  tables: Tables,
  storeId: string,
): Promise<IndexRequest | undefined> {
  await client.query(
    `insert into ${tables.indexes} (vector_store_id, due) select id, false from ${tables.vectorStores} where id = $1
     on conflict (vector_store_id) do update set vector_store_id = excluded.vector_store_id`,
    [storeId],
  );
  const result = await client.query<IndexRequest>(
    `select store.index_policy, store.dimensions, store.precision, plan.m, plan.ef_construction, plan.current_index, plan.attributes,
       plan.target_recall, plan.keyword_index, plan.own_table
     from ${tables.vectorStores} as store join ${tables.indexes} as plan on plan.vector_store_id = store.id
     where store.id = $1 and coalesce(store.expires_at > now(), true) for no key update of store`,
    [storeId],
  );
  return result.rows[0];
}

/**
 * Stores the request for a store's index, after `lockRequest`, and makes the store due for the worker. An
 * index in use is rebuilt when its parameters differ from the request, or when `rebuild` is true.
 */
export async function setRequest(
  client: Client,
  tables: Tables,
  storeId: string,
  request: IndexRequest,
  rebuild: boolean,
): Promise<void> {
  const { index_policy: policy, precision, m, ef_construction, current_index: current, attributes } = request;
  await client.query(
    `update ${tables.indexes} set m = $2, ef_construction = $3, rebuild = rebuild or $4, attributes = $5, target_recall = $6, keyword_index = $7,
       due = true, due_since = now(), retry_at = null
     where vector_store_id = $1`,
    [
      storeId,
      m,
      ef_construction,
      rebuild || (current !== null && !isSameDesign(designOf(request), current)),
      JSON.stringify(attributes),
      request.target_recall,
      request.keyword_index,
    ],
  );
  await client.query(
    `update ${tables.vectorStores} set index_policy = $2, precision = $3, index_state = case
       when $2 = 'always' and dimensions is not null and index_state in ('none', 'failed') then 'waiting' else index_state end
     where id = $1`,
    [storeId, policy, precision],
  );
}
