import { ConnectError } from "@connectrpc/connect";
import type { EmbeddingInput } from "../../gen/pgquiver/v1/embeddings_pb.ts";
import type { IngestFinish } from "../../gen/pgquiver/v1/ingest_pb.ts";
import { bulkTurn } from "../api/concurrency/bulk-turns.ts";
import { giveBackBuffer } from "../api/buffer-pool.ts";
import type { ByteBudget, Reservation } from "../api/byte-budget.ts";
import { checkLength, checkRange } from "../api/checks.ts";
import { checkIdentifier, makeIdentifier } from "../api/identifier.ts";
import type { Messages } from "../api/message-reader.ts";
import { UnreadableRow, type ReceivedBatch, type ReceivedIngest } from "../api/received-ingest.ts";
import { checkContent, checkJson, checkTime, writeMetadata } from "../embeddings/row.ts";
import { checkDimensions, checkFloats, type Vector } from "../embeddings/vector.ts";
import { describeError, failedPrecondition, invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import { decodeBatch, decodeRow, emptyRow, type BatchBytes, type RowBytes } from "./binary-batch.ts";
import type { RowFault } from "./ingests.ts";
import type { Pace } from "./pace.ts";
import type { IngestSession } from "./session.ts";
import type { Batch, PlacedRow } from "./settle.ts";

/**
 * Batches to write in one transaction, and the reason why the group ended. Disposing of a group frees its
 * memory.
 */
export interface Group extends Disposable {
  batches: Batch[];
  /**
   * Disposes of a group whose rows are committed. The buffers of its messages then receive other messages. A group that
   * was not committed leaves them to the garbage collector: a transaction that was abandoned may still read them.
   */
  recycle(): void;
  after:
    | { kind: "more" | "end" | "draining" }
    | { kind: "finish"; finish: IngestFinish }
    | { kind: "failed"; error: unknown };
}

/**
 * How long to wait for another batch before writing the group: added latency per batch for a stop-and-wait
 * client.
 */
const LINGER_MS = 2;

/** Limits of a stream. */
export interface ReadingRules {
  budget: ByteBudget;
  /** Bytes of rows that complete a group. */
  bytesMax: number;
  pace: Pace;
}

/** A validated batch, not yet counted in the byte budget. */
interface ReadBatch {
  batch: Batch;
  bytes: number;
  /** The message that the rows' vectors are views of; undefined where they are copies. */
  memory: Uint8Array | undefined;
  /** Whether the rows have to wait for the pace of the stream. */
  isEarly?: boolean;
}

/** Estimated memory overhead per row in bytes: objects and headers, without text, metadata and vector. */
const ROW_OVERHEAD_BYTES = 500;

/**
 * Reads a stream's batches, validates their rows and combines batches into groups. Each batch reserves memory
 * from the byte budget; while the budget is exhausted, no further batch is read (backpressure).
 */
export class GroupReader {
  readonly #messages: Messages<ReceivedIngest>;
  readonly #session: IngestSession;
  readonly #budget: ByteBudget;
  readonly #bytesMax: number;
  readonly #pace: Pace;
  readonly #signal: AbortSignal;
  readonly #reservations = new Set<Reservation>();
  #isClosed = false;
  #seq: number;
  #dimensions: number | null;
  #held: ReadBatch | undefined;

  constructor(
    messages: Messages<ReceivedIngest>,
    session: IngestSession,
    { budget, bytesMax, pace }: ReadingRules,
    signal: AbortSignal,
  ) {
    this.#messages = messages;
    this.#session = session;
    this.#budget = budget;
    this.#bytesMax = bytesMax;
    this.#pace = pace;
    this.#signal = signal;
    this.#seq = Number(session.ingest.through_seq);
    this.#dimensions = session.settings.dimensions ?? session.store.dimensions;
  }

  /**
   * Returns the next group; at the stream's end it may have no batches. The caller disposes of the group once
   * it is written. When the stream fails, the group has the batches received before the error, and `after`
   * has the error.
   */
  async next(): Promise<Group> {
    const batches: Batch[] = [];
    const reservations: Reservation[] = [];
    const memory: Uint8Array[] = [];
    const dispose = () => reservations.forEach((reservation) => this.#giveBack(reservation));
    const recycle = () => {
      dispose();
      memory.splice(0).forEach(giveBackBuffer);
    };
    const group = (after: Group["after"]): Group => ({ batches, after, recycle, [Symbol.dispose]: dispose });
    const take = (read: ReadBatch, reservation: Reservation) => {
      this.#reservations.add(reservation);
      reservations.push(reservation);
      batches.push(read.batch);
      if (read.memory !== undefined) memory.push(read.memory);
      if (this.#isClosed) this.close();
    };
    if (this.#held !== undefined) {
      const held = this.#held;
      this.#held = undefined;
      if (held.isEarly === true) await this.#pace.take(held.batch.rowsSeen);
      take(held, await this.#budget.reserve(held.bytes, this.#signal));
    }
    try {
      for (let bytes = 0; !this.#isClosed;) {
        if (batches.length > 0 && (bytes >= this.#bytesMax || !(await this.#messages.isReady(LINGER_MS))))
          return group({ kind: "more" });
        const next = await this.#messages.next();
        if (next.kind !== "message") return group(next);
        const { message } = next.message;
        if (message.case === "finish") return group({ kind: "finish", finish: message.value });
        if (message.case !== "batch" && message.case !== "encodedBatch")
          throw invalidArgument("message", "After 'open', expected a 'batch' or 'finish' message.");
        await bulkTurn();
        const read = this.#read(message.case === "batch" ? message.value : decodeBatch(message.value));
        if (read === undefined) continue;
        if (!this.#pace.tryTake(read.batch.rowsSeen)) {
          // What was read before must not wait for rows that come too early.
          if (batches.length > 0) {
            this.#held = { ...read, isEarly: true };
            return group({ kind: "more" });
          }
          await this.#pace.take(read.batch.rowsSeen);
        }
        const reservation = this.#budget.tryReserve(read.bytes);
        if (reservation === undefined && batches.length > 0) {
          // Waiting for memory while holding unwritten batches could deadlock the budget: write these first.
          this.#held = read;
          return group({ kind: "more" });
        }
        take(read, reservation ?? (await this.#budget.reserve(read.bytes, this.#signal)));
        bytes += read.bytes;
      }
    } catch (error) {
      return group({ kind: "failed", error });
    }
    return group({ kind: "end" });
  }

  /** Returns all memory to the byte budget, also that of groups that are not disposed of yet. */
  close(): void {
    this.#isClosed = true;
    this.#reservations.forEach((reservation) => this.#giveBack(reservation));
  }

  #giveBack(reservation: Reservation): void {
    reservation[Symbol.dispose]();
    this.#reservations.delete(reservation);
  }

  /**
   * Validates a batch; undefined when a batch with this `seq` is already committed: a client may resend it.
   */
  #read(message: ReceivedBatch | BatchBytes): ReadBatch | undefined {
    const { seq, rows } = message;
    const { key, ingest } = this.#session;
    if (seq === 0n) throw missingParameter("batch.seq");
    checkRange("batch.seq", Number(seq), 1, Infinity);
    if (seq <= BigInt(this.#seq)) return undefined;
    if (seq !== BigInt(this.#seq) + 1n) {
      throw invalidArgument(
        "batch.seq",
        `Invalid 'batch.seq': expected ${this.#seq + 1}, but got ${seq}. Batches are numbered without gaps.`,
      );
    }
    if (ingest.state !== "open") {
      throw failedPrecondition(
        "INGEST_CONFLICT",
        `Ingest '${key.ingestId}' is finished after batch ${ingest.through_seq}.`,
        "batch.seq",
      );
    }
    if (rows.length === 0) throw missingParameter("batch.rows");
    checkLength("batch.rows", rows.length, limits.batch_rows_max);
    this.#seq++;
    const batch: Batch = { seq: this.#seq, rowsSeen: rows.length, rows: [], faults: [] };
    let bytes = 0;
    for (const [index, row] of rows.entries()) {
      const source: Source = emptyRow();
      try {
        if ("start" in row) decodeRow((message as BatchBytes).buffer, row, source as RowBytes);
        else readMessage(row, source);
        const placed = this.#check(source, index);
        bytes +=
          placed.contentBytes + placed.metadata.length + this.#vectorBytes(placed) + ROW_OVERHEAD_BYTES;
        batch.rows.push(placed);
      } catch (error) {
        batch.faults.push(toFault(error, this.#seq, index, source.id));
      }
    }
    return { batch, bytes, memory: "buffer" in message ? message.buffer : undefined };
  }

  /**
   * Bytes of the row's vector; estimated from the stream's dimensions when the text is still to be embedded.
   */
  #vectorBytes({ vector }: PlacedRow): number {
    return vector?.byteLength ?? 4 * (this.#dimensions ?? DIMENSIONS_TYPICAL);
  }

  #check(source: Source, index: number): PlacedRow {
    const { content, vector } = source;
    if (source.id !== "") checkIdentifier(source.id, "id");
    const isGiven = vector.length > 0;
    if (isGiven) {
      checkFloats(vector, "embedding");
      checkDimensions(vector, this.#dimensions, this.#session.store.id, "embedding");
    }
    const placed = {
      seq: this.#seq,
      index,
      id: source.id === "" ? makeIdentifier("emb").id : source.id,
      content,
      contentBytes: checkContent(content, "content"),
      metadata: checkJson(source.metadata, "metadata"),
      vector: isGiven ? vector : undefined,
      embeddingModel: null,
      createdAt: source.createdAt === undefined ? new Date() : checkTime(source.createdAt, "created_at"),
    };
    if (isGiven) this.#dimensions ??= vector.byteLength / 4;
    return placed;
  }
}

/**
 * Assumed dimensions of a text still to be embedded for an empty store: those of OpenAI's
 * text-embedding-3-small.
 */
const DIMENSIONS_TYPICAL = 1536;

/** A row before validation, decoded from binary protobuf or from JSON. */
type Source = Omit<RowBytes, "vector"> & { vector: Vector };

function readMessage(row: EmbeddingInput | UnreadableRow, source: Source): void {
  if (row instanceof UnreadableRow) throw row.error;
  source.id = row.id ?? "";
  source.content = row.content;
  source.vector = new Float32Array(row.embedding);
  source.metadata = writeMetadata(row.metadata, "metadata");
  source.createdAt = row.createdAt;
}

function toFault(error: unknown, seq: number, index: number, id: string): RowFault {
  const details = error instanceof ConnectError ? describeError(error) : undefined;
  if (details === undefined) throw error;
  return {
    seq,
    index,
    id: storable(id.slice(0, limits.id_chars_max)),
    code: details.reason,
    field: storable(details.param ?? ""),
    message: storable((error as ConnectError).rawMessage),
  };
}

/**
 * Replaces NUL and lone surrogates: a fault may quote them, and jsonb, where faults are stored, rejects both.
 */
function storable(text: string): string {
  return text.replaceAll("\0", "\uFFFD").toWellFormed();
}
