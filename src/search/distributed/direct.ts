import type pg from "pg";
import type { DirectReads } from "../../postgres/citus/direct-reads.ts";
import type { KnownShards, ShardPlace } from "../../postgres/citus/shards.ts";
import type { Settings } from "../../postgres/protocol/with-settings.ts";
import { placeTables, type Tables } from "../../postgres/tables.ts";
import { cancellable } from "../../postgres/transaction.ts";
import type { SearchedStore } from "../../storage/stores.ts";
import type { SearchIndex } from "../nearest.ts";
import type { SearchQuery } from "../query.ts";
import { addVectors, composeVectors, find, joinCheck, runCheck } from "./split.ts";
import type { FoundRow } from "../statement.ts";
import { composeSplitSearch } from "./split-statement.ts";

/** What a direct search needs. */
interface Direct {
  /** The coordinator, or a standby of it. */
  pool: pg.Pool;
  tables: Tables;
  direct: DirectReads;
  shards: KnownShards;
}

/** One try of a search. */
interface Attempt {
  index: SearchIndex | undefined;
  settings: Settings;
  isMixed: boolean;
  signal: AbortSignal;
}

/**
 * Searches an own table on the worker that holds its only shard, so that the coordinator only checks afterwards whether the
 * store still has this table, and the table's shard this place. Returns rows as those of `composeSearch`; undefined when the search
 * must go through the coordinator.
 *
 * The worker sees each row that was acknowledged: an acknowledgement waits until the worker has committed what it had
 * prepared, and the search takes its snapshot on the worker later. A shard that was moved away misses later rows: then the
 * check finds another placement.
 */
export async function searchDirectly(
  { pool, tables, direct, shards }: Direct,
  store: SearchedStore,
  query: SearchQuery,
  { index, settings, isMixed, signal }: Attempt,
): Promise<FoundRow[] | undefined> {
  const { own_table: table } = store;
  const place = table === null ? undefined : await findPlace({ pool, shards }, table, signal);
  if (table === null || place === undefined) {
    direct.count("coordinator");
    return undefined;
  }
  const placed = placeTables(tables, store);
  const { hits, check } = composeSplitSearch(placed, store, query, index, isMixed, place);
  const read = await direct.read(place, signal, async (client) => {
    const found = await find(client, hits, settings);
    if (query.hasVectors !== true) return found;
    const shard = placeTables(tables, { own_table: place.shard });
    return addVectors(client, found, (ids) => composeVectors(shard, store.id, ids));
  });
  if (typeof read === "string") {
    if (read === "moved") shards.forget(table);
    if (read === "failed") shards.hide(table);
    direct.count(read);
    return undefined;
  }
  const checked = await cancellable(pool, signal, (client) => runCheck(client, check, read.value));
  // Of a store that has another table, or expired, there is nothing to be read again.
  const isMoved = checked?.is_current === true && !checked.has_expired && checked.is_placed !== true;
  if (isMoved) shards.forget(table);
  direct.count(isMoved ? "moved" : "direct");
  return isMoved ? undefined : joinCheck(read.value, checked);
}

async function findPlace(
  { pool, shards }: Pick<Direct, "pool" | "shards">,
  table: string,
  signal: AbortSignal,
): Promise<ShardPlace | undefined> {
  const read = () => cancellable(pool, signal, (client) => shards.find(client, table));
  return (shards.peek(table) ?? (await read())).place;
}
