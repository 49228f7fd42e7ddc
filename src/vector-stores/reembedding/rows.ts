import { findColumns } from "../../indexes/table.ts";
import { encodeArray } from "../../postgres/array.ts";
import { encodeVector } from "../../postgres/copy.ts";
import type { Client } from "../../postgres/database.ts";
import { placeTables, type Tables } from "../../postgres/tables.ts";
import type { Job } from "./jobs.ts";

/** Rows that have changed that a search for pending ones looks at by one statement. */
const CHANGED_MAX = 256;

/** A row's text. */
export interface RowText {
  id: string;
  content: string;
}

/** The store's table and the one with the new vectors, and the quoted names of the latter's columns. */
interface Places {
  source: string;
  second: string;
  columns: string[];
}

/** Finds the two tables of a job. */
export async function findPlaces(client: Client, tables: Tables, job: Job): Promise<Places> {
  const second = placeTables(tables, job).embeddings;
  return {
    source: placeTables(tables, { own_table: job.source_table }).embeddings,
    second,
    columns: (await findColumns(client, second)).split(", "),
  };
}

/** SQL condition: a row of `source` may have changed since the transaction of parameter `position`. */
function hasChanged(position: number): string {
  return `age(source.xmin) <= age($${position}::text::xid8::xid)`;
}

/**
 * Writes rows with new vectors to the second table, replacing those that are there; their other columns are copied from the
 * store's table. Rows whose text has changed since it was read are left out: a round of `findPending` finds them.
 */
export async function writeVectors(
  client: Client,
  tables: Tables,
  { vector_store_id: storeId }: Job,
  { source, second, columns }: Places,
  rows: readonly RowText[],
  vectors: readonly Float32Array[],
): Promise<void> {
  const { rows: types } = await client.query<{ oid: number }>("select 'vector'::regtype::oid as oid");
  const made = encodeArray(types[0]?.oid ?? 0, vectors.map(encodeVector));
  await client.query(
    `insert into ${second} (${columns.join(", ")})
     select ${columns.map((column) => (isVector(tables, column) ? "made_vector" : `source.${column}`)).join(", ")}
     from only ${source} as source
     join unnest($2::text[], $3::text[], $4::vector[]) as made (made_id, made_content, made_vector)
       on source.${tables.id} = made_id and source.${tables.content} = made_content
     where source.${tables.vectorStoreId} = $1
     ${replaceRows(tables, columns)}`,
    [storeId, rows.map(({ id }) => id), rows.map(({ content }) => content), made],
  );
}

/** Whether a column, quoted where Postgres must, is that of the vectors. */
function isVector({ embedding }: Tables, column: string): boolean {
  return column.replaceAll('"', "") === embedding.slice(1, -1);
}

function replaceRows(tables: Tables, columns: readonly string[]): string {
  return `on conflict (${tables.vectorStoreId}, ${tables.id}) do update set ${columns
    .map((column) => `${column} = excluded.${column}`)
    .join(", ")}`;
}

/**
 * Finds the next rows, by id, whose texts were changed or added since the last round (`changed_since`) and whose second row
 * has no vector of the present text.
 */
export async function findPending(
  client: Client,
  tables: Tables,
  { vector_store_id: storeId, changed_since: since }: Job,
  { source, second }: Pick<Places, "source" | "second">,
  { after, rowsMax }: { after: string | null; rowsMax: number },
): Promise<RowText[]> {
  const { id, content, vectorStoreId } = tables;
  for (let from = after; ;) {
    const { rows } = await client.query<{ last: string | null } & (RowText | { id: null })>(
      // On a Citus cluster the second table is a distributed one, and nothing that is joined with that can have an xmin.
      `with changed as materialized (
         select source.${id} as id, source.${content} as content from only ${source} as source
         where source.${vectorStoreId} = $1 and ${hasChanged(2)} and ($3::text is null or source.${id} > $3)
         order by source.${id} limit ${CHANGED_MAX}),
       present as materialized (
         select second.${id} as id, second.${content} as content from only ${second} as second
         where second.${vectorStoreId} = $1 and second.${id} = any(array(select id from changed)))
       select last, pending.* from (select max(id) as last from changed) looked left join (
         select changed.id, changed.content from changed left join present using (id)
         where present.content is distinct from changed.content order by changed.id limit $4) pending on true
       order by pending.id`,
      [storeId, since, from, rowsMax],
    );
    const pending = rows.filter((row) => row.id !== null);
    from = rows[0]?.last ?? null;
    if (pending.length > 0 || from === null)
      return pending.map((row) => ({ id: row.id, content: row.content }));
  }
}

/** Applies to the second table what needs no new vector: rows that are gone, and changes of other columns than the text. */
export async function applyOthers(
  client: Client,
  tables: Tables,
  { vector_store_id: storeId, changed_since: since }: Job,
  { source, second, columns }: Places,
): Promise<void> {
  const { id, content, embedding, vectorStoreId } = tables;
  await client.query(
    `with current as materialized (
       select source.${id} from only ${source} as source where source.${vectorStoreId} = $1)
     delete from ${second} where ${vectorStoreId} = $1
       and ${id} = any(array(select second.${id} from ${second} as second except select ${id} from current))`,
    [storeId],
  );
  await client.query(
    `insert into ${second} (${columns.join(", ")})
     with changed as materialized (
       select source.* from only ${source} as source where source.${vectorStoreId} = $1 and ${hasChanged(2)}),
     former as materialized (
       select second.${id}, second.${content}, second.${embedding} from only ${second} as second
       where second.${vectorStoreId} = $1 and second.${id} = any(array(select ${id} from changed)))
     select ${columns.map((column) => `${isVector(tables, column) ? "former" : "changed"}.${column}`).join(", ")}
     from changed join former using (${id}) where former.${content} = changed.${content}
     ${replaceRows(tables, columns)}`,
    [storeId, since],
  );
}

/** Throws unless both tables have the same number of rows of the store: a last safeguard before searches read the second. */
export async function checkCount(
  client: Client,
  tables: Tables,
  { vector_store_id: storeId }: Job,
  { source, second }: Pick<Places, "source" | "second">,
): Promise<void> {
  const { rows } = await client.query<{ expected: string; found: string }>(
    `select (select count(*) from only ${source} where ${tables.vectorStoreId} = $1) as expected,
       (select count(*) from only ${second}) as found`,
    [storeId],
  );
  const { expected, found } = rows[0] ?? {};
  if (expected !== found)
    throw new Error(
      `The table with the new vectors has ${found} rows instead of ${expected}, so it is not used.`,
    );
}
