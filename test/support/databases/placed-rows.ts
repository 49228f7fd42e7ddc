import type { Database } from "../../../src/postgres/database.ts";
import { deleteEmbeddings } from "../../../src/storage/embeddings.ts";
import { readPlaced, writeStore } from "../../../src/storage/placement.ts";

/** The texts of a store's rows, by id. */
export type Texts = Map<string, string>;

/** Reads the texts of a store's rows from the table that holds them. */
export async function readTexts({ pool, tables }: Database, id: string): Promise<Texts> {
  const { rows } = await pool.query("select own_table from vector_stores where id = $1", [id]);
  const found = await readPlaced(pool, tables, { id, own_table: rows[0].own_table }, (client, placed) =>
    client.query<{ id: string; content: string }>(
      `select id, content from only ${placed.embeddings} where vector_store_id = $1 order by id`,
      [id],
    ),
  );
  return new Map(found.rows.map((row) => [row.id, row.content]));
}

/** Inserts or replaces texts, and updates the store's counts. */
export async function writeTexts({ pool, tables }: Database, id: string, texts: Texts): Promise<void> {
  await writeStore(pool, tables, id, async (client, placed) => {
    const { rows } = await client.query(
      `with old as materialized (
         select id from only ${placed.embeddings} where vector_store_id = $1 and id = any($2::text[])),
       written as (
         insert into ${placed.embeddings} (vector_store_id, id, content, embedding)
         select $1, id, content, array[length(content), ascii(content), 1]::vector
         from unnest($2::text[], $3::text[]) as text (id, content)
         on conflict (vector_store_id, id) do update set content = excluded.content, embedding = excluded.embedding
         returning 1)
       select (select count(*) from written) - (select count(*) from old) as added`,
      [id, [...texts.keys()], [...texts.values()]],
    );
    await client.query(
      "update vector_stores set embedding_count = embedding_count + $2, row_changes = row_changes + 1 where id = $1",
      [id, rows[0].added],
    );
  });
}

/** Deletes rows, and updates the store's counts. */
export async function removeTexts({ pool, tables }: Database, id: string, ids: string[]): Promise<void> {
  await writeStore(pool, tables, id, async (client, placed) => {
    const removed = await deleteEmbeddings(client, placed, id, "id = any($2::text[])", [ids]);
    await client.query(
      "update vector_stores set embedding_count = embedding_count - $2, row_changes = row_changes + 1 where id = $1",
      [id, removed.rows],
    );
  });
}
