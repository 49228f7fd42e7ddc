import { bind } from "../../filters/sql.ts";
import { isPlaced, type ShardPlace } from "../../postgres/citus/shards.ts";
import { placeTables, type Tables } from "../../postgres/tables.ts";
import type { SearchedStore } from "../../storage/stores.ts";
import type { SearchIndex } from "../nearest.ts";
import type { SearchQuery } from "../query.ts";
import {
  checkColumns,
  composeHits,
  directionOf,
  nameStatement,
  type FoundRow,
  type Statement,
} from "../statement.ts";

/** The two statements of a search in an own table that is on another node. */
export interface SplitSearch {
  /** The hits alone, best first: rows of `FoundRow` without the store's check and the name of the file. */
  hits: Statement;
  /** The check of the cached store row, with the names of files by id: a `CheckRow`, or none when the store is deleted. */
  check: (fileIds: readonly string[]) => Statement;
}

/** What the check of a split search finds. */
export interface CheckRow extends Pick<FoundRow, "is_current" | "has_expired"> {
  /** Whether the shard is still where the hits were read; absent where they were read through the coordinator. */
  is_placed?: boolean;
  filenames: Record<string, string> | null;
}

/**
 * Composes a search in an own table, like `composeSearch`, in two statements. In one, the coordinator of a cluster would plan
 * and join what the worker has found, for as much CPU time as the worker takes to find it; alone, the statement is passed on
 * to the worker of a table of one shard. So it reads no other table: a search by words must have `storeRows`. The hits have
 * no vectors: see `composeVectors` of split.ts.
 *
 * `check` must run after `hits` and has a snapshot of its own. That is enough: a store's rows only ever move from the
 * shared table to an own one, whose name is never used again. So if the row names this table afterwards, and the cached row,
 * read before, did so too, it was the store's table in between. With `place`, the hits are for the shard on its worker, and
 * the check, for the coordinator, says as well whether the shard is still there.
 */
export function composeSplitSearch(
  tables: Tables,
  store: SearchedStore,
  query: SearchQuery,
  index: SearchIndex | undefined,
  isMixed = false,
  place?: ShardPlace,
): SplitSearch {
  const values: unknown[] = [];
  const read = place === undefined ? store : { ...store, own_table: place.shard };
  const placed = place === undefined ? tables : placeTables(tables, read);
  const { bounded, plan } = composeHits(placed, read, query, index, isMixed, "", values);
  const text = `select * from (${bounded}) hits order by value ${directionOf(query)}, id`;
  return {
    hits: plan === "generic" ? { name: nameStatement(text), text, values } : { text, values },
    check: (fileIds) => {
      const params: unknown[] = [];
      const columns = checkColumns(store, params);
      const files = `(select jsonb_object_agg(id, filename) from ${tables.files} where id = any(${bind(params, fileIds, "text[]")}))`;
      const isThere = place && isPlaced(place, (value, type) => bind(params, value, type));
      const placed = isThere === undefined ? "" : `, ${isThere} as is_placed`;
      const check = `select ${columns}, ${files} as filenames ${placed} from ${tables.vectorStores} where id = ${bind(params, store.id, "text")}`;
      return {
        name: place === undefined ? "check_store" : "check_placed_store",
        text: check,
        values: params,
      };
    },
  };
}
