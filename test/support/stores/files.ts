import { type OpenAI, toFile } from "openai";
import type { Database } from "../../../src/postgres/database.ts";
import { allEmbeddings } from "./index-store.ts";

/** Uploads a text as a file, and returns its id. */
export async function uploadText(client: OpenAI, text: string, filename = "notes.txt"): Promise<string> {
  const file = await toFile(Buffer.from(text), filename);
  return (await client.files.create({ file, purpose: "assistants" })).id;
}

/** Reads a store's counters (`kept`), and counts the same from its rows and files (`counted`). */
export async function readCounters(database: Database, storeId: string) {
  const { pool } = database;
  const embeddings = allEmbeddings(database);
  const { rows } = await pool.query<{ kept: Record<string, unknown>; counted: Record<string, unknown> }>(
    `select jsonb_build_object('files', file_counts, 'rows', embedding_count, 'bytes', usage_bytes) as kept,
       (select jsonb_build_object(
          'files', jsonb_build_object(
            'in_progress', count(*) filter (where status = 'in_progress'),
            'completed', count(*) filter (where status = 'completed') + (
              select count(*) from ${embeddings} where vector_store_id = store.id and file_id is null),
            'failed', count(*) filter (where status = 'failed'),
            'cancelled', count(*) filter (where status = 'cancelled'),
            'total', count(*) + (
              select count(*) from ${embeddings} where vector_store_id = store.id and file_id is null)),
          'rows', (select count(*) from ${embeddings} where vector_store_id = store.id),
          'bytes', (select coalesce(sum(octet_length(content)), 0) from ${embeddings} where vector_store_id = store.id))
        from pgquiver_vector_store_files where vector_store_id = store.id) as counted
     from vector_stores as store where id = $1`,
    [storeId],
  );
  const [counters] = rows;
  if (counters === undefined) throw new Error(`there is no store ${storeId}`);
  return counters;
}

/** Polls `look` every 10 ms until it returns a value other than undefined. */
export async function until<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
