import {
  DocumentError,
  type DocumentChunk,
  type DocumentReader,
  type DocumentSource,
} from "../documents/reader.ts";
import { countOrRefuse } from "../embeddings/count.ts";
import { failedPrecondition, unavailable } from "../errors.ts";
import type { Embedder } from "../models/embedder.ts";
import { checkSameModel, chooseEmbedder } from "../models/same-model.ts";
import type { Client, Database } from "../postgres/database.ts";
import { isCancelled } from "../postgres/errors.ts";
import { transaction } from "../postgres/transaction.ts";
import { openForWriting } from "../storage/placement.ts";
import { requireRoom } from "../storage/quotas.ts";
import { requireActiveStore, requireStore } from "../storage/require.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import {
  insertChunks,
  publishChunks,
  stageChunks,
  unstageChunks,
  type Chunk,
  type Chunked,
} from "./chunks.ts";
import type { FileProgress, Stage } from "./progress.ts";
import { removeLocked } from "./attach.ts";
import { completeClaim, lockClaim, type Claim } from "./claims.ts";
import { FormerVectors } from "./former-vectors.ts";
import { lockSuccession, type Succession } from "./replacements.ts";
import { findAttachment, updateAttributes } from "./rows.ts";
import { errorType, startSpan, traced } from "../tracing.ts";
import { ATTEMPTS_MAX, SlowPublishError } from "./retry-policy.ts";
import { localId, projectOf } from "../store-id.ts";

/** The dependencies of file processing. */
export interface ProcessingContext {
  database: Database;
  embedder: Embedder;
  reader: DocumentReader;
  /** Finds an uploaded file; undefined when there is none. */
  findDocument: (fileId: string) => Promise<DocumentSource | undefined>;
}

/** Where the processing of a file writes how far it is. */
export interface ProgressReport {
  progress: FileProgress;
  /** Called when the next stage begins. */
  onStage: (stage: Stage) => void;
}

/** The claim is no longer valid: the file was cancelled or removed, or another process has claimed it. */
export class SupersededError extends Error {
  override name = "SupersededError";
}

/**
 * Texts per group, which is embedded by one call, and their UTF-8 bytes; bounds a file's memory to a few MiB.
 */
const GROUP_TEXTS_MAX = 512;
const GROUP_BYTES_MAX = 1024 * 1024;

/**
 * `statement_timeout` for publishing a large file's chunks: inserting into an HNSW index takes 1 ms per
 * chunk.
 */
const PUBLISH_TIMEOUT_MS = 3_600_000;

/**
 * Parses a file, splits its text into chunks, embeds them, and inserts all of them in one transaction
 * together with the file's status and the store's counts: no search finds part of a file. Returns the number
 * of chunks. Throws a SupersededError when the claim is no longer valid, and a DocumentError when the file
 * cannot be read.
 */
export async function processFile(
  context: ProcessingContext,
  claim: Claim,
  report: ProgressReport,
  signal: AbortSignal,
): Promise<number> {
  const { database, reader } = context;
  if (claim.attempts > ATTEMPTS_MAX)
    throw new DocumentError("server_error", `Processing the file ended unexpectedly ${ATTEMPTS_MAX} times.`);
  const store = await requireActiveStore(database.pool, database.tables, claim.vector_store_id);
  const embedder = chooseEmbedder(context.embedder, store);
  checkLength(embedder, store, embedder.dimensions);
  await requireRoomFor(database, claim, { rows: 1, bytes: 1 });
  const document = await context.findDocument(claim.file_id);
  if (document === undefined) throw new DocumentError("invalid_file", "The file was deleted or has expired.");
  const former = await readFormer(database, embedder, claim, store, signal);
  const writer = new ChunkWriter({ ...context, embedder, former }, claim, store, report, signal);
  const source = follow(document, report.progress);
  try {
    // Not active: the groups that are embedded while the file is read are no parts of the reading.
    const reading = startSpan("read document", () => ({ kind: "internal", attributes: {} }));
    try {
      for await (const chunks of reader.read(source, claim.chunking, signal)) await writer.add(chunks);
      reading?.end();
    } catch (error) {
      reading?.end(errorType(error));
      throw error;
    }
    return await writer.finish();
  } finally {
    await writer.clear();
  }
}

/** Reads what the file that a claim's file replaces has embedded by the same model. */
async function readFormer(
  database: Database,
  embedder: Embedder,
  { replaces }: Claim,
  store: VectorStoreRow,
  signal: AbortSignal,
): Promise<FormerVectors | undefined> {
  if (replaces === null || store.embedding_model !== embedder.model) return undefined;
  const replaced = await findAttachment(database.pool, database.tables, store.id, replaces);
  if (replaced === undefined) return undefined;
  return FormerVectors.read(database, store, replaces, replaced.chunk_count, signal);
}

/** What a file's chunks are embedded with. */
interface WritingContext extends ProcessingContext {
  /** The vectors of the file that is replaced. */
  former: FormerVectors | undefined;
}

/**
 * Embeds the chunks of one file in groups. A file of one group is inserted from memory; the chunks of a
 * larger file go through the staging table, which bounds the memory.
 */
class ChunkWriter {
  readonly #context: WritingContext;
  readonly #claim: Claim;
  readonly #store: VectorStoreRow;
  readonly #report: ProgressReport;
  readonly #signal: AbortSignal;
  /** Chunks of the next group, not embedded yet. */
  #group: DocumentChunk[] = [];
  #textBytes = 0;
  /** Resolves when the latest full group is embedded and the groups before it are staged. */
  #writing = Promise.resolve();
  /** Embedded chunks of at most one group, neither staged nor inserted yet. */
  #chunks: Chunk[] = [];
  #staged = 0;
  #count = 0;
  #bytes = 0;
  #dimensions = 0;

  constructor(
    context: WritingContext,
    claim: Claim,
    store: VectorStoreRow,
    report: ProgressReport,
    signal: AbortSignal,
  ) {
    this.#report = report;
    this.#context = context;
    this.#claim = claim;
    this.#store = store;
    this.#signal = signal;
  }

  async add(chunks: readonly DocumentChunk[]): Promise<void> {
    this.#report.progress.chunksRead += chunks.length;
    for (const chunk of chunks) {
      this.#group.push(chunk);
      this.#textBytes += Buffer.byteLength(chunk.text);
      if (this.#group.length < GROUP_TEXTS_MAX && this.#textBytes < GROUP_BYTES_MAX) continue;
      // Pipelining: one group is embedded and staged while the next is parsed. Waiting here gives
      // backpressure.
      await this.#writing;
      this.#writing = this.#write(this.#group, this.#textBytes);
      this.#writing.catch(() => {});
      this.#group = [];
      this.#textBytes = 0;
    }
  }

  async #write(group: readonly DocumentChunk[], bytes: number): Promise<void> {
    await this.#stage();
    await this.#embed(group, bytes);
  }

  /**
   * Inserts all chunks into the store and completes the claim, in one transaction. Returns the number of
   * chunks.
   */
  async finish(): Promise<number> {
    this.#report.onStage("embedding");
    await this.#writing;
    if (this.#group.length > 0) {
      if (this.#staged > 0) await this.#stage();
      await this.#embed(this.#group, this.#textBytes);
    }
    if (this.#count === 0) throw new DocumentError("invalid_file", "The file contains no text.");
    this.#report.onStage("storing");
    if (this.#staged > 0) await this.#stage();
    const attributes = { "pgquiver.chunks": this.#count };
    await traced(
      "store chunks",
      () => ({ attributes }),
      () => this.#publish(),
    );
    return this.#count;
  }

  async #publish(): Promise<void> {
    const { database, embedder } = this.#context;
    const { pool, tables } = database;
    const { claim, vector_store_id: storeId, file_id: fileId, replaces } = this.#claim;
    await transaction(
      pool,
      async (client) => {
        if (this.#staged > 0 || replaces !== null)
          await client.query(`set local statement_timeout = ${PUBLISH_TIMEOUT_MS}`);
        const placed = await openForWriting(client, tables, storeId);
        const held = await this.#lock(client);
        if (placed === undefined || held === undefined) throw new SupersededError();
        checkSameModel(this.#store, await requireStore(client, tables, storeId));
        const file: Chunked = { storeId, fileId, attributes: held.attributes };
        if (this.#staged === 0) await insertChunks(client, placed, file, this.#chunks);
        // The staging table is UNLOGGED: a crash of Postgres truncates it, so some staged chunks may be
        // missing.
        else if ((await publishChunks(client, placed, claim, file).catch(explainSlow)) !== this.#count)
          throw unavailable("DATABASE_UNAVAILABLE", "The database was restarted.", { retryAfterMs: 0 });
        await completeClaim(client, tables, claim, { chunks: this.#count, bytes: this.#bytes });
        // Before the addition is counted: so the new version has the old one's part of the quota.
        if (held.replaced !== undefined)
          await removeLocked(client, tables, placed, held.replaced).catch(explainSlow);
        const addition = {
          rows: this.#count,
          bytes: this.#bytes,
          files: { in_progress: -1, completed: 1 },
          dimensions: this.#dimensions,
          embeddingModel: embedder.model,
        };
        await countOrRefuse(client, tables, storeId, addition, "file");
      },
      this.#signal,
    );
  }

  /** Locks the row of the claim, and of the file that it replaces; undefined when the claim is no longer valid. */
  async #lock(client: Client): Promise<Succession | undefined> {
    const { tables } = this.#context.database;
    const { claim, vector_store_id: storeId, file_id: fileId, replaces } = this.#claim;
    if (replaces === null) {
      const held = await lockClaim(client, tables, claim);
      return held && { ...held, replaced: undefined };
    }
    const held = await lockSuccession(client, tables, this.#claim, replaces);
    if (held !== undefined) await updateAttributes(client, tables, storeId, fileId, held.attributes);
    return held;
  }

  /** Deletes the staged chunks. Errors are ignored: `sweepAttachments` deletes them later. */
  async clear(): Promise<void> {
    const { pool, tables } = this.#context.database;
    await this.#writing.catch(() => {});
    if (this.#staged === 0) return;
    await transaction(pool, (client) => unstageChunks(client, tables, this.#claim.claim)).catch(() => {});
  }

  async #embed(group: readonly DocumentChunk[], bytes: number): Promise<void> {
    const { database, former } = this.#context;
    const texts = group.map(({ text }) => text);
    // Tokens of chunks that do not fit would be paid for nothing.
    const growth = { rows: this.#count + texts.length, bytes: this.#bytes + bytes };
    await requireRoomFor(database, this.#claim, growth);
    const known = (await former?.find(texts, this.#signal)) ?? [];
    const unknown = texts.filter((_, index) => known[index] === undefined);
    const embedded = unknown.length === 0 ? [] : await this.#embedTexts(unknown);
    let next = 0;
    const vectors = texts.map((_, index) => known[index] ?? (embedded[next++] as Float32Array));
    this.#dimensions ||= (vectors[0] as Float32Array).length;
    for (const vector of vectors) checkLength(this.#context.embedder, this.#store, vector.length);
    // A chunk that has the vector of the former version may stand elsewhere now.
    for (const [index, chunk] of group.entries())
      this.#chunks.push({ ...chunk, index: this.#count + index, vector: vectors[index] as Float32Array });
    this.#count += texts.length;
    const { progress } = this.#report;
    progress.chunksEmbedded = this.#count;
    progress.chunksReused = (progress.chunksReused ?? 0) + texts.length - unknown.length;
    this.#bytes += bytes;
  }

  async #embedTexts(texts: readonly string[]): Promise<readonly Float32Array[]> {
    const payer = { project: projectOf(this.#store.id), keyId: "" };
    const { vectors } = await traced(
      "embed chunks",
      () => ({ attributes: { "pgquiver.chunks": texts.length } }),
      () => this.#context.embedder.embed(texts, this.#signal, "unbounded", payer),
    );
    return vectors;
  }

  async #stage(): Promise<void> {
    if (this.#chunks.length === 0) return;
    const { pool, tables } = this.#context.database;
    await transaction(
      pool,
      (client) => stageChunks(client, tables, this.#claim.claim, this.#chunks),
      this.#signal,
    );
    this.#staged += this.#chunks.length;
    this.#chunks = [];
  }
}

/** Counts what is read of a file. */
function follow(document: DocumentSource, progress: FileProgress): DocumentSource {
  progress.bytesTotal = document.bytes;
  return {
    ...document,
    async *open(signal) {
      for await (const part of document.open(signal)) {
        progress.bytesRead += part.length;
        yield part;
      }
    },
    onPages: (pages) => (progress.pages = pages),
  };
}

/**
 * Throws INSUFFICIENT_QUOTA when the chunks of a file do not fit. A new version takes the room of the old one, so its chunks
 * are counted only when they are stored.
 */
async function requireRoomFor(
  { pool, tables }: Database,
  { vector_store_id: storeId, replaces }: Claim,
  growth: { rows: number; bytes: number },
): Promise<void> {
  if (replaces === null) await requireRoom(pool, tables, storeId, growth);
}

function explainSlow(error: unknown): never {
  if (!isCancelled(error)) throw error;
  throw new SlowPublishError("The database took longer than allowed to store the chunks.", { cause: error });
}

function checkLength(embedder: Embedder, store: VectorStoreRow, length: number | undefined): void {
  if (length === undefined || store.dimensions === null || store.dimensions === length) return;
  throw failedPrecondition(
    "DIMENSION_MISMATCH",
    `Vector store '${localId(store.id)}' holds vectors of ${store.dimensions} dimensions, but the embedding model '${embedder.model}' makes ${length}. ` +
      "Use a separate vector store for this model.",
    "vector_store_id",
  );
}
