import { ConnectError } from "@connectrpc/connect";
import type { EmbeddingInput } from "../../gen/pgquiver/v1/embeddings_pb.ts";
import type { IngestFinish } from "../../gen/pgquiver/v1/ingest_pb.ts";
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
import type { IngestSession } from "./session.ts";
import type { Batch, PlacedRow } from "./settle.ts";

/** Some batches to be written together, and what comes after them. */
export interface Group extends Disposable {
  batches: Batch[];
  after:
    | { kind: "more" | "end" | "draining" }
    | { kind: "finish"; finish: IngestFinish }
    | { kind: "failed"; error: unknown };
}

/** Bytes of rows after which a group is written: some hundred rows of 1,536 dimensions, which COPY takes at full speed. */
const GROUP_BYTES = 4 * 1024 * 1024;

/** How long to wait for more before a group is written: a client that awaits each acknowledgement pays it once a batch. */
const LINGER_MS = 2;

/** Bytes a row costs in memory besides its text, metadata and vector: objects and headers, estimated. */
const ROW_OVERHEAD_BYTES = 500;

/** Reads a stream's batches, checks their rows, and gives them out in groups, within the byte budget. */
export class GroupReader {
  readonly #messages: Messages<ReceivedIngest>;
  readonly #session: IngestSession;
  readonly #budget: ByteBudget;
  readonly #signal: AbortSignal;
  readonly #reservations = new Set<Reservation>();
  #isClosed = false;
  #seq: number;
  #dimensions: number | null;
  #held: { batch: Batch; bytes: number } | undefined;

  constructor(
    messages: Messages<ReceivedIngest>,
    session: IngestSession,
    budget: ByteBudget,
    signal: AbortSignal,
  ) {
    this.#messages = messages;
    this.#session = session;
    this.#budget = budget;
    this.#signal = signal;
    this.#seq = Number(session.ingest.through_seq);
    this.#dimensions = session.settings.dimensions ?? session.store.dimensions;
  }

  /**
   * The next group; one without batches when the stream is at its end. Dispose of it when it is
   * written. A stream that breaks still gives out the batches that came before.
   */
  async next(): Promise<Group> {
    const batches: Batch[] = [];
    const reservations: Reservation[] = [];
    const group = (after: Group["after"]): Group => ({
      batches,
      after,
      [Symbol.dispose]: () => reservations.forEach((reservation) => this.#giveBack(reservation)),
    });
    const take = (batch: Batch, reservation: Reservation) => {
      this.#reservations.add(reservation);
      reservations.push(reservation);
      batches.push(batch);
      if (this.#isClosed) this.close();
    };
    if (this.#held !== undefined) {
      const { batch, bytes } = this.#held;
      this.#held = undefined;
      take(batch, await this.#budget.reserve(bytes, this.#signal));
    }
    try {
      for (let bytes = 0; !this.#isClosed;) {
        if (batches.length > 0 && (bytes >= GROUP_BYTES || !(await this.#messages.isReady(LINGER_MS))))
          return group({ kind: "more" });
        const next = await this.#messages.next();
        if (next.kind !== "message") return group(next);
        const { message } = next.message;
        if (message.case === "finish") return group({ kind: "finish", finish: message.value });
        if (message.case !== "batch" && message.case !== "encodedBatch")
          throw invalidArgument("message", "After 'open' a stream has 'batch' and 'finish' messages only.");
        const read = this.#read(message.case === "batch" ? message.value : decodeBatch(message.value));
        if (read === undefined) continue;
        const reservation = this.#budget.tryReserve(read.bytes);
        if (reservation === undefined && batches.length > 0) {
          // Writing what is at hand frees memory; waiting with it would not.
          this.#held = read;
          return group({ kind: "more" });
        }
        take(read.batch, reservation ?? (await this.#budget.reserve(read.bytes, this.#signal)));
        bytes += read.bytes;
      }
    } catch (error) {
      return group({ kind: "failed", error });
    }
    return group({ kind: "end" });
  }

  /** Gives back all memory, that of groups not yet disposed of too. */
  close(): void {
    this.#isClosed = true;
    this.#reservations.forEach((reservation) => this.#giveBack(reservation));
  }

  #giveBack(reservation: Reservation): void {
    reservation[Symbol.dispose]();
    this.#reservations.delete(reservation);
  }

  /** Checks a batch; undefined when it was committed before. */
  #read(message: ReceivedBatch | BatchBytes): { batch: Batch; bytes: number } | undefined {
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
    return { batch, bytes };
  }

  /** What the row's vector takes; one that the service is yet to make has the length of the others. */
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
      isEmbedded: false,
      createdAt: source.createdAt === undefined ? new Date() : checkTime(source.createdAt, "created_at"),
    };
    if (isGiven) this.#dimensions ??= vector.byteLength / 4;
    return placed;
  }
}

/** Length of a vector that the service is yet to make for a store without any: that of OpenAI's small models. */
const DIMENSIONS_TYPICAL = 1536;

/** A row as it came, in binary or in JSON. */
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

/** A fault tells of texts that Postgres may not hold, and is itself kept there. */
function storable(text: string): string {
  return text.replaceAll("\0", "\uFFFD").toWellFormed();
}
