import { dropTable } from "../../indexes/removal.ts";
import type { Client } from "../../postgres/database.ts";
import type { Tables } from "../../postgres/tables.ts";
import { releaseTables } from "./jobs.ts";

/**
 * Removes the job of a deleted store, and drops the tables that are not the store's yet or not any more, in the transaction
 * that deletes the store, after the catalog's and the store's row were locked. A table that others keep locked is left to
 * the index worker.
 */
export async function removeJob(client: Client, tables: Tables, storeId: string): Promise<void> {
  const { rows } = await client.query<{ own_table: string | null; former_table: string | null }>(
    `delete from ${tables.reembeddings} where vector_store_id = $1 returning own_table, former_table`,
    [storeId],
  );
  const { rows: left } = await client.query<{ name: string }>(
    `select own_table as name from ${tables.indexes} where own_table = any($1::text[]) and vector_store_id is null and not due`,
    [rows.flatMap(({ own_table, former_table }) => [own_table, former_table])],
  );
  for (const { name } of left) {
    if (await dropTable(client, tables, name))
      await client.query(`delete from ${tables.indexes} where own_table = $1`, [name]);
    else await releaseTables(client, tables, [name]);
  }
}
