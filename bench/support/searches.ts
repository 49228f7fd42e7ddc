import type pg from "pg";
import { encodeVector } from "../../src/postgres/copy.ts";
import { SEARCH_SETTINGS } from "../../src/postgres/search-settings.ts";
import { placeTables, quoteTables } from "../../src/postgres/tables.ts";
import { composeSearch } from "../../src/search/statement.ts";
import { findStore } from "../../src/storage/stores.ts";
import type { GrpcClient, RestClient } from "./clients.ts";
import type { BenchDatabase } from "./database.ts";
import type { Report } from "./report.ts";
import type { Contender } from "./rounds.ts";
import type { BenchServer } from "./server.ts";

/** Number of results of every search. */
export const RESULTS = 10;

/** The environment of every part of the benchmark. */
export interface Bench {
  database: BenchDatabase;
  pool: pg.Pool;
  server: BenchServer;
  rest: RestClient;
  grpc: GrpcClient;
  report: Report;
}

/** A contender that searches a store by vector; a call resolves to the ids found. */
export interface Search extends Contender {
  call(index: number): Promise<string[]>;
}

/** The floor: the service's SQL statement, sent by node-postgres without the service. */
export async function searchBySql(
  bench: Bench,
  id: string,
  query: (index: number) => Float32Array,
): Promise<Search> {
  const tables = quoteTables({});
  const store = await findStore(bench.pool, tables, id);
  if (store === undefined) throw new Error(`There is no store ${id}.`);
  const { index_precision: precision, dimensions } = store;
  const index = precision === null || dimensions === null ? undefined : { precision, dimensions };
  const pool = bench.database.openPool(SEARCH_SETTINGS);
  return {
    name: "SQL by node-postgres (floor)",
    async call(number) {
      const statement = composeSearch(
        placeTables(tables, store),
        store,
        { ...PLAIN, vector: encodeVector(query(number)), resultsMax: RESULTS },
        index,
      );
      const { rows } = await pool.query<{ id: string }>(statement);
      return rows.map((row) => row.id);
    },
  };
}

const PLAIN = { fusion: undefined, filter: undefined, isExact: false, efSearch: undefined };

/** A search by the given SQL statement; $1 is the vector, $2 the store's id. */
export function searchByStatement(
  bench: Bench,
  name: string,
  store: string,
  query: (index: number) => Float32Array,
  text: string,
): Search {
  const pool = bench.database.openPool(SEARCH_SETTINGS);
  return {
    name,
    async call(index) {
      const { rows } = await pool.query<{ id: string }>({
        name: name.replaceAll(/\W/g, "_"),
        text,
        values: [encodeVector(query(index)), store],
      });
      return rows.map(({ id }) => id);
    },
  };
}

/** A search over REST; `body` returns the request without the number of results. */
export function searchByRest(
  { rest }: Bench,
  name: string,
  store: string,
  body: (index: number) => object,
): Search {
  return {
    name,
    async call(index) {
      const request = Buffer.from(JSON.stringify({ ...body(index), max_num_results: RESULTS }));
      return idsOf(JSON.parse((await rest.post(`/v1/vector_stores/${store}/search`, request)).toString()));
    },
  };
}

/** A search over gRPC, with the vector as an array of numbers. */
export function searchByGrpc({ grpc }: Bench, store: string, query: (index: number) => Float32Array): Search {
  const rpc = "SearchService/Search";
  return {
    name: "gRPC",
    async call(index) {
      const request = { embedding: [...query(index)], vector_store_id: store, max_num_results: RESULTS };
      return idsOf(grpc.decode(rpc, await grpc.send(rpc, grpc.encode(rpc, request))));
    },
  };
}

function idsOf(reply: unknown): string[] {
  return (reply as { data: { id: string }[] }).data.map(({ id }) => id);
}

/** Encodes a vector as base64 of little-endian float32, which the service accepts in JSON. */
export function toBase64(vector: Float32Array): string {
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString("base64");
}
