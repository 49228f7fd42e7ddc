import type pg from "pg";

/** Body of a request to litellm-pgvector's batch route. */
interface BatchRequest {
  embeddings: { content: string; embedding: number[]; metadata?: Record<string, unknown> }[];
}

interface InsertedRow {
  id: string;
  vector_store_id: string;
  content: string;
  metadata: unknown;
  created_at_timestamp: string;
}

/** The tables that Prisma creates from litellm-pgvector's prisma/schema.prisma. */
export const TABLES = `
  create table "vector_stores" (
    "id" text not null, "name" text not null, "file_counts" jsonb, "status" text not null default 'completed',
    "usage_bytes" integer default 0, "created_at" timestamp(3) not null default current_timestamp,
    "expires_after" jsonb, "expires_at" timestamp(3), "last_active_at" timestamp(3), "metadata" jsonb,
    constraint "vector_stores_pkey" primary key ("id"));
  create table "embeddings" (
    "id" text not null, "vector_store_id" text not null, "content" text not null,
    "embedding" vector(1536) not null, "metadata" jsonb, "created_at" timestamp(3) not null default current_timestamp,
    constraint "embeddings_pkey" primary key ("id"));
  alter table "embeddings" add constraint "embeddings_vector_store_id_fkey" foreign key ("vector_store_id")
    references "vector_stores" ("id") on delete cascade on update cascade`;

/**
 * Reimplements create_embeddings_batch of litellm-pgvector's main.py with its SQL, and resolves to the
 * reply's body. Two differences, both in its favour. Its UPDATE assigns file_counts twice, which Postgres
 * rejects: here the jsonb_set calls are nested, so that the statement works. And statements are prepared
 * under a name, since Prisma's engine caches statements.
 */
export async function createEmbeddingsBatch(pool: pg.Pool, storeId: string, body: Buffer): Promise<Buffer> {
  const { embeddings } = JSON.parse(body.toString()) as BatchRequest;
  const { rowCount } = await pool.query({
    name: "find_store",
    text: "SELECT id FROM vector_stores WHERE id = $1",
    values: [storeId],
  });
  if (rowCount === 0) throw new Error("Vector store not found");
  const clauses: string[] = [];
  const values: unknown[] = [];
  for (const { content, embedding, metadata } of embeddings) {
    const next = values.length + 1;
    clauses.push(`(gen_random_uuid(), $${next}, $${next + 1}, $${next + 2}::vector, $${next + 3}, NOW())`);
    values.push(storeId, content, `[${embedding.join(",")}]`, metadata ?? {});
  }
  const { rows } = await pool.query<InsertedRow>({
    name: `insert_${embeddings.length}`,
    text: `INSERT INTO embeddings (id, vector_store_id, content, embedding, metadata, created_at)
      VALUES ${clauses.join(", ")}
      RETURNING id, vector_store_id, content, metadata, EXTRACT(EPOCH FROM created_at)::bigint as created_at_timestamp`,
    values,
  });
  const contentLength = embeddings.reduce((sum, { content }) => sum + content.length, 0);
  await pool.query({
    name: "update_store",
    text: `UPDATE vector_stores
      SET file_counts = jsonb_set(
            jsonb_set(
              COALESCE(file_counts, '{"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0}'::jsonb),
              '{completed}', (COALESCE(file_counts->>'completed', '0')::int + $2)::text::jsonb),
            '{total}', (COALESCE(file_counts->>'total', '0')::int + $2)::text::jsonb),
          usage_bytes = COALESCE(usage_bytes, 0) + $3, last_active_at = NOW()
      WHERE id = $1`,
    values: [storeId, embeddings.length, contentLength],
  });
  const data = rows.map(({ created_at_timestamp, ...row }) => ({
    ...row,
    created_at: Number(created_at_timestamp),
  }));
  return Buffer.from(JSON.stringify({ data, created: Math.floor(Date.now() / 1000) }));
}
