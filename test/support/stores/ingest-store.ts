import { expect, vi } from "vitest";
import type { Json } from "../clients/client.ts";
import type { IngestClient, IngestMessage, Row, Summary } from "../clients/ingest-client.ts";
import type { TestServer } from "../servers/server.ts";
import { allEmbeddings } from "./index-store.ts";

/** Creates a store and returns its id. */
export async function createStore({ url }: Pick<TestServer, "url">, settings: Json = {}): Promise<string> {
  const reply = await fetch(`${url}/v1/vector_stores`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(settings),
  });
  const { id } = (await reply.json()) as { id: string };
  return id;
}

/** Deletes a store. */
export async function deleteStore({ url }: Pick<TestServer, "url">, id: string): Promise<void> {
  const reply = await fetch(`${url}/v1/vector_stores/${id}`, { method: "DELETE" });
  expect(reply.status).toBe(200);
}

/** Reads the rows of a store by SQL, in order of id. */
export async function readRows(
  { database }: Pick<TestServer, "database">,
  storeId: string,
): Promise<{ id: string; content: string; embedding: number[]; metadata: Json }[]> {
  const sql = `select id, content, embedding, metadata from ${allEmbeddings(database)} where vector_store_id = $1 order by id`;
  return (await database.pool.query(sql, [storeId])).rows;
}

/** Reads the ids of a store's rows, in order. */
export async function readIds(server: Pick<TestServer, "database">, storeId: string): Promise<string[]> {
  return (await readRows(server, storeId)).map((row) => row.id);
}

/** Expects a store's counts to equal those computed by SQL. Returns the number of rows. */
export async function expectExactCounts(
  { database }: Pick<TestServer, "database">,
  storeId: string,
): Promise<number> {
  const embeddings = allEmbeddings(database);
  const { rows } = await database.pool.query(
    `select usage_bytes::int as bytes, (file_counts ->> 'total')::int as total, (file_counts ->> 'completed')::int as completed,
       (select count(*)::int from ${embeddings} where vector_store_id = vector_stores.id) as "rows",
       (select coalesce(sum(octet_length(content)), 0)::int from ${embeddings} where vector_store_id = vector_stores.id) as content
     from vector_stores where id = $1`,
    [storeId],
  );
  const { bytes, total, completed, rows: count, content } = rows[0];
  expect({ bytes, total, completed }).toEqual({ bytes: content, total: count, completed: count });
  return count as number;
}

/**
 * Expects that within 10 s all connections are back in the pool and no call waits for one. Not at once,
 * because background work uses the pool too.
 */
export async function expectNoLeak({ database: { pool } }: Pick<TestServer, "database">): Promise<void> {
  const counts = () => ({ busy: pool.totalCount - pool.idleCount, waiting: pool.waitingCount });
  await vi.waitFor(() => expect(counts()).toEqual({ busy: 0, waiting: 0 }), { timeout: 60_000 });
}

/** Sends messages, ends the stream, and returns the reply. */
export async function ingestAll(client: IngestClient, messages: Iterable<IngestMessage>): Promise<Summary> {
  const { send, end, reply } = client.ingest();
  for (const message of messages) await send(message);
  end();
  return reply;
}

/** Makes rows with vectors of two dimensions, and ids made of a prefix and a number. */
export function makeRows(count: number, prefix = "r", first = 0): Row[] {
  return Array.from({ length: count }, (_, index) => ({
    id: `${prefix}${String(first + index).padStart(6, "0")}`,
    content: `text ${first + index}`,
    embedding: [1, first + index],
  }));
}

/** Makes an `open` message. */
export function open(storeId: string, settings: Json = {}): IngestMessage {
  return { open: { vector_store_id: storeId, ...settings } };
}

/** Makes a `batch` message. */
export function batch(seq: number, rows: Row[]): IngestMessage {
  return { batch: { seq, rows } };
}

/**
 * A seeded generator of pseudo-random integers below a bound (linear congruential, Numerical Recipes, 7.1).
 */
export function randomOf(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}
