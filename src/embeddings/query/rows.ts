import { attributeExpression, type Attribute } from "../../filters/attribute-index.ts";
import { bind } from "../../filters/sql.ts";
import { limits } from "../../limits.ts";
import type { Queryable } from "../../postgres/database.ts";
import { ofVisibleStore } from "../../postgres/row-security/policies.ts";
import type { Tables } from "../../postgres/tables.ts";
import { PLACE_BYTES, type EmbeddingRow, type RowCondition } from "../../storage/embeddings.ts";

/** Which rows of a store are meant. */
export interface Selection {
  storeId: string;
  /** Conditions that the rows must meet, all of them. */
  conditions: readonly RowCondition[];
}

/** An order of rows; ties are in order of the id. */
export interface QueryOrder {
  /** Undefined: the order of creation. */
  attribute: Attribute | undefined;
  descending: boolean;
}

/** The place of a row in an order. */
export interface QueryPlace {
  /** What the row is sorted by, as Postgres writes it, which loses nothing; null: the row has no such value. */
  key: string | null;
  id: string;
}

/** Which of its fields a row is returned with. */
export type QueryFields = Record<"content" | "metadata" | "embedding", boolean>;

/** A row, and where it stands. A field that is not asked for is empty. */
export interface QueriedRow extends EmbeddingRow {
  key: string | null;
}

/** A page of rows. */
export interface QueriedPage {
  rows: QueriedRow[];
  /** The number of rows that were found: more than `rows` where these would exceed the bytes of a page. */
  found: number;
}

/** How a page of rows is read. */
export interface QueryPage {
  order: QueryOrder;
  /** The row before the page; undefined: the first page. */
  after: QueryPlace | undefined;
  rowsMax: number;
  fields: QueryFields;
}

/** Reads a page of rows: first those that have what they are sorted by, then those that lack it. */
export async function queryEmbeddings(
  client: Queryable,
  tables: Tables,
  selection: Selection,
  page: QueryPage,
): Promise<QueriedPage> {
  const { after, rowsMax } = page;
  const sorted =
    after?.key === null
      ? { rows: [], found: 0 }
      : await readRows(client, tables, selection, { ...page, isSorted: true });
  if (sorted.found > sorted.rows.length || sorted.found >= rowsMax) return sorted;
  const others = await readRows(client, tables, selection, {
    ...page,
    isSorted: false,
    after: after?.key === null ? after : undefined,
    rowsMax: rowsMax - sorted.found,
  });
  return { rows: [...sorted.rows, ...others.rows], found: sorted.found + others.found };
}

/** Reads rows that have what they are sorted by (`isSorted`), or that lack it. */
async function readRows(
  client: Queryable,
  tables: Tables,
  selection: Selection,
  { order, after, rowsMax, fields, isSorted }: QueryPage & { isSorted: boolean },
): Promise<QueriedPage> {
  const params: unknown[] = [];
  const key =
    order.attribute === undefined ? tables.createdAt : attributeExpression(tables.metadata, order.attribute);
  const conditions = [compileSelection(tables, selection, params), `${key} is ${isSorted ? "not " : ""}null`];
  const operator = order.descending ? "<" : ">";
  const direction = order.descending ? "desc" : "asc";
  if (after !== undefined) {
    // Without a type, Postgres reads the parameter as one of the type that it is compared with.
    const place = `$${params.push(after.id)}`;
    conditions.push(
      isSorted
        ? `(${key}, ${tables.id}) ${operator} ($${params.push(after.key)}, ${place})`
        : `${tables.id} ${operator} ${place}`,
    );
  }
  const columns = {
    content: fields.content ? tables.content : "''",
    metadata: fields.metadata ? tables.metadata : "null::jsonb",
    embedding: fields.embedding ? `vector_send(${tables.embedding})` : "null::bytea",
  };
  const ordered = (sort: string, id: string) =>
    `order by ${isSorted ? `${sort} ${direction}, ` : ""}${id} ${direction}`;
  const { rows } = await client.query<QueriedRow & { found: string }>(
    `select id, content, metadata, created_at, embedding, file_id, chunk_place as place, sort_key::text as key, found from (
       select *, count(*) over () as found,
         sum(octet_length(content) + coalesce(octet_length(metadata::text), 0) + coalesce(octet_length(embedding), 0) + ${PLACE_BYTES})
           over (${ordered("sort_key", "id")} rows between unbounded preceding and 1 preceding) as preceding_bytes
       from (select ${tables.id} as id, ${columns.content} as content, ${columns.metadata} as metadata,
           ${tables.createdAt} as created_at, ${columns.embedding} as embedding, file_id, chunk_place, ${key} as sort_key
         from only ${tables.embeddings} where ${conditions.join(" and ")}
         ${ordered(key, tables.id)} limit ${bind(params, rowsMax, "int")}) as page) as page
     where preceding_bytes is null or preceding_bytes <= ${bind(params, limits.page_bytes_max, "bigint")}
     ${ordered("sort_key", "id")}`,
    params,
  );
  return { rows, found: Number(rows[0]?.found ?? 0) };
}

/** Counts rows. */
export async function countEmbeddings(
  client: Queryable,
  tables: Tables,
  selection: Selection,
): Promise<bigint> {
  const params: unknown[] = [];
  const condition = compileSelection(tables, selection, params);
  const { rows } = await client.query<{ count: string }>(
    `select count(*) as count from only ${tables.embeddings} where ${condition}`,
    params,
  );
  return BigInt(rows[0]?.count ?? 0);
}

/** A value of an attribute, and the number of rows that have it. */
export interface FacetValue {
  /** Position of the attribute among those asked for, from 1. */
  attribute: number;
  value: string | number | boolean;
  count: string;
}

/** Counts the values of attributes in one scan: `valuesMax` of each, the commonest first. */
export async function countValues(
  client: Queryable,
  tables: Tables,
  selection: Selection,
  { attributes, valuesMax }: { attributes: readonly string[]; valuesMax: number },
): Promise<FacetValue[]> {
  const params: unknown[] = [];
  const condition = compileSelection(tables, selection, params);
  // A list counts once for each value in it, however often the value stands there.
  const { rows } = await client.query<FacetValue>(
    `select attribute, value, count from (
       select attribute, value, count, row_number() over (partition by attribute order by count desc, value) as position
       from (
         select attribute, value, count(*) as count
         from only ${tables.embeddings}
           cross join unnest(${bind(params, attributes, "text[]")}) with ordinality as asked (name, attribute)
           cross join lateral (select ${tables.metadata} -> name as given) as field
           cross join lateral (
             select distinct value from jsonb_array_elements(
               case jsonb_typeof(given) when 'array' then given else jsonb_build_array(given) end) as value
             where jsonb_typeof(value) in ('number', 'boolean')
               or jsonb_typeof(value) = 'string' and char_length(value #>> '{}') <= ${limits.facet_value_chars_max}) as items
         where ${condition}
         group by attribute, value) as counted) as ranked
     where position <= ${bind(params, valuesMax, "int")} order by attribute, position`,
    params,
  );
  return rows.map((row) => ({ ...row, attribute: Number(row.attribute) }));
}

function compileSelection(tables: Tables, { storeId, conditions }: Selection, params: unknown[]): string {
  // The first parameter, which conditions know.
  const ofStore = `${tables.vectorStoreId} = ${ofVisibleStore(tables, `$${params.push(storeId)}::text`)}`;
  return [ofStore, ...conditions.map((compile) => compile(tables, params))].join(" and ");
}
