import type pg from "pg";
import { encodeVector } from "../../src/postgres/copy.ts";
import { SEARCH_SETTINGS } from "../../src/postgres/search-settings.ts";
import { quoteTables } from "../../src/postgres/tables.ts";
import { vectorExpression } from "../../src/postgres/vector-index.ts";
import { findStore } from "../../src/storage/stores.ts";
import type { BenchDatabase } from "../support/database.ts";
import { backendsCpuMs } from "./cpu.ts";
import { RESULTS } from "./peer.ts";
import type { Searched } from "./workload.ts";

/**
 * The floor of a search: plain SQL over a store's own table and index, prepared, without the service, as a program would
 * send that knows both.
 */
export async function createFloor(database: BenchDatabase, id: string): Promise<Searched> {
  const pools = new Map<number, pg.Pool>();
  const { nearest: text } = await composeNearest(database, id);
  let pool = database.openPool();
  return {
    name: "plain SQL (floor)",
    collection: id,
    peer: {
      cpuMs: () => backendsCpuMs(database.url),
      async setEf(_, ef) {
        pool = pools.get(ef) ?? database.openPool({ ...SEARCH_SETTINGS, "hnsw.ef_search": ef });
        pools.set(ef, pool);
      },
      async search(_, { vector }) {
        const { rows } = await pool.query<{ id: string }>({
          name: "nearest",
          text,
          values: [encodeVector(vector)],
        });
        return rows.map((row) => row.id);
      },
    },
  };
}

/** The own table of a store, and statements that search it by its index; $1 is the query's vector. */
export async function composeNearest(
  database: BenchDatabase,
  id: string,
): Promise<{ table: string; nearest: string; compose: (condition: string) => string }> {
  const store = await findStore(database.openPool(), quoteTables({}), id);
  if (
    store === undefined ||
    store.own_table === null ||
    store.index_precision === null ||
    store.dimensions === null
  )
    throw new Error(`The store ${id} has no index.`);
  const table = store.own_table;
  const { indexed, operator, query } = vectorExpression("embedding", store.index_precision, store.dimensions);
  const compose = (
    condition: string,
  ) => `select id, content, metadata, embedding <=> $1 as distance from ${table}
    where ${condition} order by ${indexed} ${operator} ${query("$1")} limit ${RESULTS}`;
  return { table, nearest: compose("true"), compose };
}
