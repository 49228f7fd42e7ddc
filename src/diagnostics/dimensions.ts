import pg from "pg";
import { placeTables, type Tables } from "../postgres/tables.ts";
import { findingsOr, type Finding, type Subject } from "./finding.ts";
import { sampleOf } from "./sample.ts";

/** Bounds of the vectors that `checkDimensions` reads: it has to read each to know its length. */
const STORES_MAX = 1_000;
const BYTES_MAX = 256 * 1024 * 1024;

/** Stores that one statement looks at, when their rows are in the same table. */
const STORES_AT_ONCE = 100;

interface Sampled {
  id: string;
  own_table: string | null;
  dimensions: number;
}

/** Vectors of a store that have another length than the store. */
interface Others {
  store: Sampled;
  tables: Tables;
  lengths: { dimensions: number; rows: number }[];
}

/**
 * Looks for vectors of another length than their store's, which searches leave out. A store with an index has
 * none. Of the others a random sample is read, those whose index failed first.
 */
export async function checkDimensions(subject: Subject): Promise<Finding[]> {
  const stores = await drawStores(subject);
  const findings: Finding[] = [];
  for (const group of groupByTable(stores)) {
    const found = await findOthers(subject, group);
    findings.push(...found.map(explain));
  }
  return findingsOr(
    findings,
    `The vectors of ${stores.length} stores, drawn at random, have their store's length.`,
  );
}

async function drawStores({ client, database }: Subject): Promise<Sampled[]> {
  const { vectorStores } = database.tables;
  const select = (from: string, states: string) =>
    `select id, own_table, dimensions, embedding_count, index_state from ${from}
     where dimensions is not null and embedding_count > 0 and index_precision is null and ${states}`;
  const { rows } = await client.query<Sampled>(
    `select id, own_table, dimensions from (
       select id, own_table, dimensions, sum(embedding_count * dimensions * 4)
         over (order by index_state <> 'failed', random() rows unbounded preceding) as bytes
       from (${select(vectorStores, "index_state = 'failed'")}
         union all ${select(sampleOf(vectorStores), "index_state <> 'failed'")}) as candidates) as drawn
     where bytes <= ${BYTES_MAX} limit ${STORES_MAX}`,
  );
  return rows;
}

/** Divides stores into groups whose rows are in one table. */
function groupByTable(stores: readonly Sampled[]): Sampled[][] {
  const shared = stores.filter(({ own_table: own }) => own === null);
  const groups = stores.filter(({ own_table: own }) => own !== null).map((store) => [store]);
  for (let start = 0; start < shared.length; start += STORES_AT_ONCE)
    groups.push(shared.slice(start, start + STORES_AT_ONCE));
  return groups;
}

/** Reads the vectors of stores whose rows are in one table. LATERAL: each store by the primary key, however many there are. */
async function findOthers({ client, database }: Subject, stores: readonly Sampled[]): Promise<Others[]> {
  const tables = placeTables(database.tables, stores[0] as Sampled);
  const { embeddings, embedding, vectorStoreId } = tables;
  const { rows } = await client.query<{ id: string; dimensions: number; rows: number }>(
    `select store.id, others.* from unnest($1::text[], $2::int[]) as store (id, dimensions), lateral (
       select vector_dims(${embedding}) as dimensions, count(*)::int as rows from only ${embeddings}
       where ${vectorStoreId} = store.id and vector_dims(${embedding}) <> store.dimensions group by 1) as others
     order by others.rows desc`,
    [stores.map(({ id }) => id), stores.map(({ dimensions }) => dimensions)],
  );
  const lengths = Map.groupBy(rows, ({ id }) => id);
  return stores.flatMap((store) => {
    const found = lengths.get(store.id);
    return found === undefined ? [] : [{ store, tables, lengths: found }];
  });
}

function explain({ store, tables, lengths }: Others): Finding {
  const { vectorStores, embeddings, embedding, vectorStoreId } = tables;
  const id = pg.escapeLiteral(store.id);
  const counts = lengths.map(({ dimensions, rows }) => `${rows} of ${dimensions}`).join(", ");
  return {
    severity: "warning",
    message: `Store ${store.id} has ${store.dimensions} dimensions and vectors of other lengths (${counts}): searches by vector leave them out, and no index can be built.`,
    remedy:
      `Embed their texts again, or: delete from only ${embeddings} where ${vectorStoreId} = ${id} and vector_dims(${embedding}) <> ${store.dimensions}; ` +
      `To search these instead of the others: update ${vectorStores} set dimensions = ${lengths[0]?.dimensions} where id = ${id};`,
    storeId: store.id,
  };
}
