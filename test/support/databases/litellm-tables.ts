import type { Database } from "../../../src/postgres/database.ts";

/**
 * Makes the tables as Prisma makes them of litellm-pgvector's schema.prisma; `vectorType` for those who have
 * changed the column's type.
 */
export async function createLitellmTables({ pool }: Database, vectorType = "vector(1536)"): Promise<void> {
  await pool.query(`
    create extension if not exists vector;
    CREATE TABLE "vector_stores" (
      "id" TEXT NOT NULL, "name" TEXT NOT NULL, "file_counts" JSONB, "status" TEXT NOT NULL DEFAULT 'completed',
      "usage_bytes" INTEGER DEFAULT 0, "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
      "expires_after" JSONB, "expires_at" TIMESTAMP(3), "last_active_at" TIMESTAMP(3), "metadata" JSONB,
      CONSTRAINT "vector_stores_pkey" PRIMARY KEY ("id"));
    CREATE TABLE "embeddings" (
      "id" TEXT NOT NULL, "vector_store_id" TEXT NOT NULL, "content" TEXT NOT NULL, "embedding" ${vectorType} NOT NULL,
      "metadata" JSONB, "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
      CONSTRAINT "embeddings_pkey" PRIMARY KEY ("id"));
    ALTER TABLE "embeddings" ADD CONSTRAINT "embeddings_vector_store_id_fkey"
      FOREIGN KEY ("vector_store_id") REFERENCES "vector_stores"("id") ON DELETE CASCADE ON UPDATE CASCADE`);
}
