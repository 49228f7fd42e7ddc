import type pg from "pg";
import { createDocumentReader } from "../../src/documents/reader.ts";
import type { Random } from "./random.ts";

/** The environment of trials with files. */
export interface FileBench {
  /** Resolves to the address of one of the service's replicas, once it listens. */
  address: () => Promise<string>;
  /** Crashes a replica or Postgres, and restarts it. */
  strike: (random: Random) => Promise<void>;
  /** Connections for checking the rows. */
  pool: pg.Pool;
}

/** An uploaded file and the chunks that processing must produce. */
export interface KnownFile {
  id: string;
  chunks: string[];
}

const CHUNKING = { max_chunk_size_tokens: 100, chunk_overlap_tokens: 20 };

/** Longer than a file can take with expired leases, restarts and retry delays. */
const PATIENCE_MS = 240_000;

/**
 * Uploads texts of one to about two thousand chunks (large ones are staged), and returns the expected chunks.
 */
export async function uploadFiles(address: string, random: Random, count: number): Promise<KnownFile[]> {
  const reader = createDocumentReader({
    workers: 1,
    memoryBytes: 512 * 1024 * 1024,
    timeoutMs: 60_000,
    timeoutMsPerMib: 0,
    timeoutMsMax: 60_000,
    textBytesMax: 2 ** 30,
    chunksMax: 1_000_000,
  });
  const files: KnownFile[] = [];
  for (let number = 0; number < count; number++) {
    const words = random.pick([20, 20, 400, 2_000, number % 10 === 0 ? 30_000 : 100]);
    const text = Array.from({ length: words }, (_, word) => `f${number}w${word}`).join(" ");
    const bytes = Buffer.from(text);
    const form = new FormData();
    form.set("file", new Blob([bytes]), `text-${number}.txt`);
    form.set("purpose", "assistants");
    const { id } = await call<{ id: string }>(async () => address, "/v1/files", {
      method: "POST",
      body: form,
    });
    const chunks: string[] = [];
    const source = {
      filename: `text-${number}.txt`,
      bytes: bytes.length,
      async *open() {
        yield bytes;
      },
    };
    const chunking = {
      unit: "tokens" as const,
      sizeMax: CHUNKING.max_chunk_size_tokens,
      overlap: CHUNKING.chunk_overlap_tokens,
    };
    for await (const batch of reader.read(source, chunking, new AbortController().signal))
      chunks.push(...batch.map(({ text }) => text));
    files.push({ id, chunks });
  }
  await reader.close();
  return files;
}

/**
 * Attaches all files to a new store as one batch, while faults strike and some files are removed. Returns the
 * number of faults, the number of files that failed, and one sentence per difference from the expected rows
 * and counters.
 */
export async function runFileTrial(
  random: Random,
  bench: FileBench,
  files: readonly KnownFile[],
): Promise<{ struck: number; failed: number; problems: string[] }> {
  const { address } = bench;
  const { id: storeId } = await call<{ id: string }>(address, "/v1/vector_stores", post({}));
  const path = `/v1/vector_stores/${storeId}`;
  const batch = await call<{ id: string }>(
    address,
    `${path}/file_batches`,
    post({
      file_ids: files.map(({ id }) => id),
      chunking_strategy: { type: "static", static: CHUNKING },
    }),
  );
  const removed = new Set(files.filter(() => random.chance(0.06)).map(({ id }) => id));
  let struck = 0;
  const strikes = (async () => {
    for (let left = random.integer(1, 4); left > 0; left--) {
      await pause(random.integer(0, 1_500));
      await bench.strike(random);
      struck++;
    }
  })();
  const removals = (async () => {
    for (const id of removed) {
      await pause(random.integer(0, 500));
      await call(address, `${path}/files/${id}`, { method: "DELETE" }, 404);
    }
  })();
  await Promise.all([strikes, removals]);
  const startedAt = performance.now();
  for (;;) {
    const { status } = await call<{ status: string }>(address, `${path}/file_batches/${batch.id}`, {});
    if (status === "completed") break;
    if (performance.now() - startedAt > PATIENCE_MS)
      return { struck, failed: 0, problems: ["files are still in progress"] };
    await pause(100);
  }
  const left = files.filter(({ id }) => !removed.has(id));
  return { struck, ...(await compareFiles(bench.pool, storeId, left)) };
}

/** Compares a store with the files that it must hold, by SQL on the tables, not through the service. */
async function compareFiles(
  pool: pg.Pool,
  storeId: string,
  files: readonly KnownFile[],
): Promise<{ failed: number; problems: string[] }> {
  const problems: string[] = [];
  const rows = await pool.query<{
    file_id: string;
    status: string;
    error_message: string | null;
    texts: string[] | null;
  }>(
    `select file_id, status, error_message,
       (select array_agg(content order by chunk_index) from embeddings
        where vector_store_id = file.vector_store_id and embeddings.file_id = file.file_id) as texts
     from pgquiver_vector_store_files as file where vector_store_id = $1`,
    [storeId],
  );
  const stored = new Map(rows.rows.map((row) => [row.file_id, row]));
  let failed = 0;
  for (const { id, chunks } of files) {
    const row = stored.get(id);
    const texts = row?.texts ?? [];
    // A file whose retries are used up is "failed", and must then have no chunk.
    const isGivenUp = row?.status === "failed" && /broke off/.test(row.error_message ?? "");
    if (isGivenUp) failed++;
    const isRight = isGivenUp ? texts.length === 0 : row?.status === "completed" && isSame(texts, chunks);
    if (!isRight)
      problems.push(
        `${id} is ${row?.status} (${row?.error_message}) and has ${texts.length} chunks instead of ${chunks.length}`,
      );
    stored.delete(id);
  }
  for (const id of stored.keys()) problems.push(`${id} was removed and is there`);
  const counters = await pool.query<{ kept: string; counted: string }>(
    `select concat_ws(' ', file_counts ->> 'completed', file_counts ->> 'failed', file_counts ->> 'in_progress',
         file_counts ->> 'total', embedding_count, usage_bytes) as kept,
       (select concat_ws(' ', count(*) filter (where status = 'completed'), count(*) filter (where status = 'failed'), 0, count(*),
          (select concat_ws(' ', count(*), coalesce(sum(octet_length(content)), 0)) from embeddings where vector_store_id = $1))
        from pgquiver_vector_store_files where vector_store_id = $1) as counted
     from vector_stores where id = $1`,
    [storeId],
  );
  const [store] = counters.rows;
  if (store?.kept !== store?.counted)
    problems.push(`the counters say "${store?.kept}", the rows "${store?.counted}"`);
  return { failed, problems };
}

function isSame(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((text, index) => text === others[index]);
}

function post(body: object): RequestInit {
  return { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
}

/**
 * Calls the service; retries when the connection breaks, and on 5xx and 429. `accepted`: a status accepted
 * besides 200.
 */
async function call<T>(
  address: () => Promise<string>,
  path: string,
  request: RequestInit,
  accepted = 200,
): Promise<T> {
  for (const startedAt = performance.now(); ;) {
    try {
      const reply = await fetch(`http://${await address()}${path}`, request);
      const text = await reply.text();
      if (reply.ok || reply.status === accepted) return JSON.parse(text) as T;
      if (reply.status < 500 && reply.status !== 429) throw new Error(`${path}: ${reply.status} ${text}`);
    } catch (error) {
      if (!(error instanceof TypeError) || performance.now() - startedAt > PATIENCE_MS) throw error;
    }
    await pause(50);
  }
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
