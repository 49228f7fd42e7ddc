import pg from "pg";
import { placeTables } from "../postgres/tables.ts";
import { findingsOr, type Finding, type Subject } from "./finding.ts";

/** Bounds of the vectors that `checkDimensions` reads: it has to read each to know its length. */
const STORES_MAX = 1_000;
const BYTES_MAX = 256 * 1024 * 1024;

interface Sampled {
  id: string;
  own_table: string | null;
  dimensions: number;
}

interface Length {
  dimensions: number;
  rows: number;
}

/**
 * Looks for vectors of another length than their store's, which searches leave out. A store with an index has
 * none. Of the others a random sample is read, those whose index failed first.
 */
export async function checkDimensions({ client, database }: Subject): Promise<Finding[]> {
  const { tables } = database;
  const { rows: stores } = await client.query<Sampled>(
    `select id, own_table, dimensions from (
       select id, own_table, dimensions, sum(embedding_count * dimensions * 4)
         over (order by index_state <> 'failed', random() rows unbounded preceding) as bytes
       from ${tables.vectorStores}
       where dimensions is not null and embedding_count > 0 and index_precision is null) as candidates
     where bytes <= ${BYTES_MAX} limit ${STORES_MAX}`,
  );
  const findings: Finding[] = [];
  for (const store of stores) {
    const { embeddings, embedding, vectorStoreId } = placeTables(tables, store);
    const { rows: others } = await client.query<Length>(
      `select vector_dims(${embedding}) as dimensions, count(*)::int as rows from only ${embeddings}
       where ${vectorStoreId} = $1 and vector_dims(${embedding}) <> $2 group by 1 order by 2 desc`,
      [store.id, store.dimensions],
    );
    if (others.length === 0) continue;
    const id = pg.escapeLiteral(store.id);
    const counts = others.map(({ dimensions, rows }) => `${rows} of ${dimensions}`).join(", ");
    findings.push({
      severity: "warning",
      message: `Store ${store.id} has ${store.dimensions} dimensions and vectors of other lengths (${counts}): searches by vector leave them out, and no index can be built.`,
      remedy:
        `Embed their texts again, or: delete from only ${embeddings} where ${vectorStoreId} = ${id} and vector_dims(${embedding}) <> ${store.dimensions}; ` +
        `To search these instead of the others: update ${tables.vectorStores} set dimensions = ${others[0]?.dimensions} where id = ${id};`,
      storeId: store.id,
    });
  }
  return findingsOr(
    findings,
    `The vectors of ${stores.length} stores, drawn at random, have their store's length.`,
  );
}
