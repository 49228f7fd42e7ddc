import type { Client } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { designOf, isSameDesign, type Plan } from "./plan.ts";

/** What a store's index is to be. */
export type IndexRequest = Pick<
  Plan,
  "dimensions" | "precision" | "m" | "ef_construction" | "current_index"
> & { index_policy: NonNullable<Plan["index_policy"]> };

/**
 * Reads what was asked for so far, entering the store into the catalog if it is not there, and locks it until the end of
 * the transaction. Undefined when there is no such store, or it has expired.
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
    `select store.index_policy, store.dimensions, store.precision, plan.m, plan.ef_construction, plan.current_index
     from ${tables.vectorStores} as store join ${tables.indexes} as plan on plan.vector_store_id = store.id
     where store.id = $1 and coalesce(store.expires_at > now(), true) for no key update of store`,
    [storeId],
  );
  return result.rows[0];
}

/**
 * Sets what a store's index is to be, after `lockRequest`, and has the worker see to it at once. One in use is built
 * anew when it is made otherwise, or when `rebuild` says so.
 */
export async function setRequest(
  client: Client,
  tables: Tables,
  storeId: string,
  request: IndexRequest,
  rebuild: boolean,
): Promise<void> {
  const { index_policy: policy, precision, m, ef_construction, current_index: current } = request;
  await client.query(
    `update ${tables.indexes} set m = $2, ef_construction = $3, rebuild = rebuild or $4,
       due = true, due_since = now(), retry_at = null
     where vector_store_id = $1`,
    [storeId, m, ef_construction, rebuild || (current !== null && !isSameDesign(designOf(request), current))],
  );
  await client.query(
    `update ${tables.vectorStores} set index_policy = $2, precision = $3, index_state = case
       when $2 = 'always' and dimensions is not null and index_state in ('none', 'failed') then 'waiting' else index_state end
     where id = $1`,
    [storeId, policy, precision],
  );
}
