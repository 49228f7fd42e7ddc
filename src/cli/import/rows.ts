import { createHash } from "node:crypto";
import { toRow, type PlacedRow } from "../load/rows.ts";
import type { Source } from "./source.ts";

const ID = /^(?!\.{1,2}$)[A-Za-z0-9_.:-]{1,128}$/;

/**
 * Makes rows of a source's. `content`: the field that has the text; default as for `load`. An id that pgquiver does not allow,
 * such as Pinecone's `doc1#chunk1`, is replaced by a hash of it, the same at each import, and kept in the metadata as
 * `source_id`.
 */
export async function* toRows(rows: Source["rows"], content: string | undefined): AsyncGenerator<PlacedRow> {
  let place = 0;
  for await (const cells of rows) {
    place++;
    const row = toRow(content === undefined ? cells : rename(cells, content), place);
    if (row.id === undefined || ID.test(row.id)) yield { row, place };
    else yield { row: { ...row, id: hash(row.id), metadata: { ...row.metadata, source_id: row.id } }, place };
  }
}

function rename(cells: Record<string, unknown>, field: string): Record<string, unknown> {
  const { [field]: content, ...others } = cells;
  return { ...others, content };
}

function hash(id: string): string {
  return `hash-${createHash("sha256").update(id).digest("hex").slice(0, 32)}`;
}
