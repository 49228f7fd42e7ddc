import type pg from "pg";
import { encodeArray, encodeJsonb, OID } from "../postgres/array.ts";
import { encodeTimestamp, encodeVector } from "../postgres/copy.ts";
import type { Statement } from "../postgres/protocol/one-trip.ts";
import type { Tables } from "../postgres/tables.ts";
import { forgetWords } from "../storage/words.ts";
import type { Row } from "./row.ts";

/** What happens to a row whose id exists in the store: refused, replaces the old row, or skipped. */
export type WriteMode = "insert" | "upsert" | "skip_existing";

/** The result of a write. */
export interface Written {
  /** Rows inserted or replaced. */
  written: number;
  /** Rows not written because their id exists. */
  skipped: number;
  /** Change of the store's number of rows. */
  rowsAdded: number;
  /** Change of the store's bytes of text; negative when shorter texts replace longer ones. */
  bytesAdded: number;
}

/**
 * Writes rows whose ids may exist, by INSERT … ON CONFLICT: "replace" updates the old rows, "skip" keeps
 * them. The ids must be distinct. Rows are sorted by id, so that two concurrent writes lock rows in the same
 * order and cannot deadlock. For "replace" the caller must hold the lock on the store's row: otherwise a row
 * inserted concurrently would be counted twice. One array parameter per column avoids a staging table. The
 * statement is not named: each connection would keep a prepared statement for every store that has a table of
 * its own.
 */
export async function mergeRows(
  client: pg.PoolClient,
  tables: Tables,
  storeId: string,
  rows: readonly Row[],
  mode: "replace" | "skip",
  vectorOid: number,
): Promise<Written> {
  const values = [storeId, ...encodeColumns(rows, vectorOid)];
  const result = await client.query<{
    written: string;
    replaced: string;
    bytes: string;
    replaced_bytes: string;
  }>(mergeStatement(tables, mode), values);
  const counts = result.rows[0];
  const written = Number(counts?.written);
  return {
    written,
    skipped: rows.length - written,
    rowsAdded: written - Number(counts?.replaced),
    bytesAdded: Number(counts?.bytes) - Number(counts?.replaced_bytes),
  };
}

/**
 * Inserts those rows whose ids do not exist, and returns their ids. Otherwise like `mergeRows` with "skip". Compared to
 * `insertRows`, this takes one round trip instead of two, and an id that exists does not fail the transaction.
 */
export async function insertAbsent(
  client: pg.PoolClient,
  tables: Tables,
  storeId: string,
  rows: readonly Row[],
  vectorOid: number,
): Promise<Set<string>> {
  const result = await client.query<{ id: string }>(
    `insert into ${tables.embeddings} (${tables.vectorStoreId}, ${columnsOf(tables)})
     select $1, incoming.* from ${INCOMING}
     on conflict (${tables.vectorStoreId}, ${tables.id}) do nothing returning ${tables.id} as id`,
    [storeId, ...encodeColumns(rows, vectorOid)],
  );
  return new Set(result.rows.map(({ id }) => id));
}

/** The statement that inserts rows whose ids do not exist; it fails with unique_violation when one does. */
export function insertStatement(
  tables: Tables,
  storeId: string,
  rows: readonly Row[],
  vectorOid: number,
): Statement {
  const text = `insert into ${tables.embeddings} (${tables.vectorStoreId}, ${columnsOf(tables)}) select $1, incoming.* from ${INCOMING}`;
  return { text, values: [storeId, ...encodeColumns(rows, vectorOid)] };
}

/** The parameters $2 to $6, one array per column, as rows. */
const INCOMING = "unnest($2::text[], $3::text[], $4::vector[], $5::jsonb[], $6::timestamptz[]) as incoming";

function columnsOf(t: Tables): string {
  return [t.id, t.content, t.embedding, t.metadata, t.createdAt].join(", ");
}

/** Encodes the rows in the order of their ids for `INCOMING`. */
function encodeColumns(rows: readonly Row[], vectorOid: number): Buffer[] {
  const sorted = rows.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const column = (oid: number, encode: (row: Row) => Buffer) => encodeArray(oid, sorted.map(encode));
  return [
    column(OID.text, (row) => Buffer.from(row.id)),
    column(OID.text, (row) => Buffer.from(row.content)),
    column(vectorOid, (row) => encodeVector(row.vector)),
    column(OID.jsonb, (row) => encodeJsonb(row.metadata)),
    column(OID.timestamptz, (row) => encodeTimestamp(row.createdAt)),
  ];
}

function mergeStatement(t: Tables, mode: "replace" | "skip"): string {
  const columns = columnsOf(t);
  const replaced = [t.content, t.embedding, t.metadata, t.createdAt].map(
    (column) => `${column} = excluded.${column}`,
  );
  // The new text of a chunk stands nowhere in the file.
  replaced.push("chunk_place = null");
  return `with incoming as materialized (
      select * from ${INCOMING} (${columns})),
    old as materialized (
      select octet_length(embeddings.${t.content}) as bytes
      from only ${t.embeddings} as embeddings join incoming using (${t.id})
      where embeddings.${t.vectorStoreId} = $1 and ${mode === "replace"}),
    merged as (
      insert into ${t.embeddings} (${t.vectorStoreId}, ${columns}) select $1, incoming.* from incoming
      on conflict (${t.vectorStoreId}, ${t.id}) do ${mode === "skip" ? "nothing" : `update set ${replaced.join(", ")}`}
      returning octet_length(${t.content}) as bytes)
      ${mode === "replace" ? forgetWords(t, "$1", `select ${t.id} from incoming`) : ""}
    select (select count(*) from merged) as written, (select coalesce(sum(bytes), 0) from merged) as bytes,
      (select count(*) from old) as replaced, (select coalesce(sum(bytes), 0) from old) as replaced_bytes`;
}
