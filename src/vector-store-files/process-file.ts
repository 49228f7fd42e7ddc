import { DocumentError, type DocumentReader, type DocumentSource } from "../documents/reader.ts";
import { recordOrRefuse } from "../embeddings/count.ts";
import { failedPrecondition, unavailable } from "../errors.ts";
import type { Embedder } from "../models/embedder.ts";
import { checkModel } from "../models/same-model.ts";
import type { Database } from "../postgres/database.ts";
import { isCancelled } from "../postgres/errors.ts";
import { cancellable, transaction } from "../postgres/transaction.ts";
import { openForWriting } from "../storage/placement.ts";
import { requireActiveStore } from "../storage/require.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import {
  insertChunks,
  publishChunks,
  stageChunks,
  unstageChunks,
  type Chunk,
  type Chunked,
} from "./chunks.ts";
import { completeClaim, lockClaim, type Claim } from "./claims.ts";
import { ATTEMPTS_MAX, SlowPublishError } from "./retry-policy.ts";

/** What files are processed with. */
export interface Workshop {
  database: Database;
  embedder: Embedder;
  reader: DocumentReader;
  /** Finds an uploaded file; undefined when there is none. */
  findDocument: (fileId: string) => Promise<DocumentSource | undefined>;
}

/** Somebody else holds the file by now, or nobody wants it any more. */
export class SupersededError extends Error {
  override name = "SupersededError";
}

/** Texts embedded together, and their UTF-8 bytes: with their vectors, what a file has in memory is a few MiB. */
const GROUP_TEXTS_MAX = 512;
const GROUP_BYTES_MAX = 1024 * 1024;

/** How long the statement may run that makes a large file's chunks rows; a vector index takes a millisecond for each. */
const PUBLISH_TIMEOUT_MS = 3_600_000;

/**
 * Reads a file, cuts it, embeds the chunks, and makes them rows of the store in one transaction with the file's status
 * and the store's counts: before that nothing of the file is found. Returns how many they are. Throws a
 * SupersededError where the claim is no longer held.
 */
export async function processFile(workshop: Workshop, claim: Claim, signal: AbortSignal): Promise<number> {
  const { database, embedder, reader } = workshop;
  if (claim.attempts > ATTEMPTS_MAX)
    throw new DocumentError("server_error", `Processing broke off ${ATTEMPTS_MAX} times.`);
  const store = await requireActiveStore(database.pool, database.tables, claim.vector_store_id);
  checkModel(embedder, store);
  checkLength(embedder, store, embedder.dimensions);
  const document = await workshop.findDocument(claim.file_id);
  if (document === undefined) throw new DocumentError("invalid_file", "The file does not exist any more.");
  const writer = new ChunkWriter(workshop, claim, store, signal);
  try {
    for await (const texts of reader.read(document, claim.chunking, signal)) await writer.add(texts);
    return await writer.finish();
  } finally {
    await writer.clear();
  }
}

/** Embeds the chunks of one file in groups. What does not fit into one is staged. */
class ChunkWriter {
  readonly #workshop: Workshop;
  readonly #claim: Claim;
  readonly #store: VectorStoreRow;
  readonly #signal: AbortSignal;
  /** Texts that have been read since the last group. */
  #texts: string[] = [];
  #textBytes = 0;
  /** Ends when the last group is embedded, and those before it are staged. */
  #writing = Promise.resolve();
  /** Chunks that are not written yet, of one group. */
  #chunks: Chunk[] = [];
  #staged = 0;
  #count = 0;
  #bytes = 0;
  #dimensions = 0;

  constructor(workshop: Workshop, claim: Claim, store: VectorStoreRow, signal: AbortSignal) {
    this.#workshop = workshop;
    this.#claim = claim;
    this.#store = store;
    this.#signal = signal;
  }

  async add(texts: readonly string[]): Promise<void> {
    for (const text of texts) {
      this.#texts.push(text);
      this.#textBytes += Buffer.byteLength(text);
      if (this.#texts.length < GROUP_TEXTS_MAX && this.#textBytes < GROUP_BYTES_MAX) continue;
      // One group is embedded and staged while the next is read.
      await this.#writing;
      this.#writing = this.#write(this.#texts, this.#textBytes);
      this.#writing.catch(() => {});
      this.#texts = [];
      this.#textBytes = 0;
    }
  }

  async #write(texts: readonly string[], bytes: number): Promise<void> {
    await this.#stage();
    await this.#embed(texts, bytes);
  }

  /** Makes all chunks rows of the store, and returns how many they are. */
  async finish(): Promise<number> {
    await this.#writing;
    if (this.#texts.length > 0) {
      if (this.#staged > 0) await this.#stage();
      await this.#embed(this.#texts, this.#textBytes);
    }
    if (this.#count === 0) throw new DocumentError("invalid_file", "The file has no text.");
    if (this.#staged > 0) await this.#stage();
    const { database, embedder } = this.#workshop;
    const { pool, tables } = database;
    const { claim, vector_store_id: storeId, file_id: fileId } = this.#claim;
    await transaction(
      pool,
      async (client) => {
        if (this.#staged > 0) await client.query(`set local statement_timeout = ${PUBLISH_TIMEOUT_MS}`);
        const placed = await openForWriting(client, tables, storeId);
        const held = await lockClaim(client, tables, claim);
        if (placed === undefined || held === undefined) throw new SupersededError();
        const file: Chunked = { storeId, fileId, attributes: held.attributes };
        if (this.#staged === 0) await insertChunks(client, placed, file, this.#chunks);
        // A crash of Postgres empties the staging table.
        else if ((await publishChunks(client, placed, claim, file).catch(explainSlow)) !== this.#count)
          throw unavailable("DATABASE_UNAVAILABLE", "The database was restarted.", { retryAfterMs: 0 });
        await completeClaim(client, tables, claim, { chunks: this.#count, bytes: this.#bytes });
        const addition = {
          rows: this.#count,
          bytes: this.#bytes,
          files: { in_progress: -1, completed: 1 },
          dimensions: this.#dimensions,
          embeddingModel: embedder.model,
        };
        await recordOrRefuse(client, tables, embedder, storeId, addition, "file");
      },
      this.#signal,
    );
    return this.#count;
  }

  /** Removes what was staged. What cannot be removed just now is swept later. */
  async clear(): Promise<void> {
    const { pool, tables } = this.#workshop.database;
    await this.#writing.catch(() => {});
    if (this.#staged > 0) await unstageChunks(pool, tables, this.#claim.claim).catch(() => {});
  }

  async #embed(texts: readonly string[], bytes: number): Promise<void> {
    const { embedder } = this.#workshop;
    const { vectors } = await embedder.embed(texts, this.#signal);
    this.#dimensions ||= (vectors[0] as Float32Array).length;
    for (const vector of vectors) checkLength(embedder, this.#store, vector.length);
    for (const [index, content] of texts.entries())
      this.#chunks.push({ index: this.#count + index, content, vector: vectors[index] as Float32Array });
    this.#count += texts.length;
    this.#bytes += bytes;
  }

  async #stage(): Promise<void> {
    if (this.#chunks.length === 0) return;
    const { pool, tables } = this.#workshop.database;
    await cancellable(pool, this.#signal, (client) =>
      stageChunks(client, tables, this.#claim.claim, this.#chunks),
    );
    this.#staged += this.#chunks.length;
    this.#chunks = [];
  }
}

function explainSlow(error: unknown): never {
  if (!isCancelled(error)) throw error;
  throw new SlowPublishError("The database took longer than allowed to store the chunks.", { cause: error });
}

function checkLength(embedder: Embedder, store: VectorStoreRow, length: number | undefined): void {
  if (length === undefined || store.dimensions === null || store.dimensions === length) return;
  throw failedPrecondition(
    "DIMENSION_MISMATCH",
    `Vector store '${store.id}' holds vectors of ${store.dimensions} dimensions, but the embedding model '${embedder.model}' makes ${length}. ` +
      "Use a store of its own for this model.",
    "vector_store_id",
  );
}
