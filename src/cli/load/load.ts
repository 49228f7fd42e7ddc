import { EventEmitter, once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type Client } from "@connectrpc/connect";
import { WriteMode } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import {
  IngestOpenSchema,
  OnError,
  type IngestRequestSchema,
  type IngestService,
  type IngestSummary,
  type RowError,
} from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import type { Batch } from "./batches.ts";

/** Batches that are sent and not committed: bounds the memory. The service commits up to 4 MiB at a time. */
const UNACKNOWLEDGED_MAX = 16;

/** Attempts without progress, and the bounds of the wait between them. */
const ATTEMPTS_MAX = 10;
const WAIT_FIRST_MS = 200;
const WAIT_MAX_MS = 30_000;

/** What ends with a connection or an instance, and may be tried again. */
const TRANSIENT = [
  Code.Unavailable,
  Code.Aborted,
  Code.Canceled,
  Code.Internal,
  Code.DeadlineExceeded,
  Code.Unknown,
];

/** What becomes of rows whose id exists, by its name in commands and clients. */
export const MODES = {
  insert: WriteMode.INSERT,
  upsert: WriteMode.UPSERT,
  skip_existing: WriteMode.SKIP_EXISTING,
};

/** Which ingest a load is. */
export interface LoadTarget {
  vectorStoreId: string;
  ingestId: string;
  mode: WriteMode;
  /** Rows that there will be, for those who watch it; undefined: unknown. */
  totalRows: bigint | undefined;
}

/** What a load tells while it runs. */
export interface LoadEvents {
  /** A row was refused; `place`: its place in the input, where that is known. */
  refused: (error: RowError, place: number | undefined) => void;
  /** The load waits before it tries again. */
  retrying: (error: Error, waitMs: number) => void;
}

/**
 * Loads batches into a store, each exactly once, through interruptions of the network and of the service: the service
 * stores a batch together with its number, and this client keeps a batch until its number is acknowledged.
 */
export class Load {
  rowsRead = 0;
  rowsCommitted = 0;
  bytesCommitted = 0;
  /** Rows that an earlier run of the same ingest has loaded. */
  rowsBefore = 0;
  readonly #batches: AsyncIterator<Batch, undefined>;
  readonly #target: LoadTarget;
  readonly #events: LoadEvents;
  readonly #unacknowledged: Batch[] = [];
  readonly #acknowledgements = new EventEmitter();
  readonly #reported = new Set<string>();
  #committedSeq = 0n;
  /** The input cannot be read: no attempt can help, and the ingest must not be completed without the rest. */
  #inputFailure: { error: unknown } | undefined;

  constructor(batches: AsyncGenerator<Batch, undefined>, target: LoadTarget, events: LoadEvents) {
    this.#batches = batches;
    this.#target = target;
    this.#events = events;
  }

  /** Runs until everything is committed. Throws a permanent error, or the last one after attempts without progress. */
  async run(client: Client<typeof IngestService>): Promise<IngestSummary> {
    for (let attempt = 1; ; attempt++) {
      const before = this.rowsRead + Number(this.#committedSeq);
      try {
        return await this.#runSession(client);
      } catch (error) {
        if (this.rowsRead + Number(this.#committedSeq) > before) attempt = 1;
        if (this.#inputFailure !== undefined) throw this.#inputFailure.error;
        const retryAfterMs = readRetry(error);
        if (retryAfterMs === undefined || attempt === ATTEMPTS_MAX) throw error;
        // Exponential backoff with jitter: the clients of a restarted service must not all return at once.
        const backoffMs = Math.random() * Math.min(WAIT_MAX_MS, WAIT_FIRST_MS * 2 ** attempt);
        const waitMs = Math.max(retryAfterMs, backoffMs);
        this.#events.retrying(error as Error, waitMs);
        await delay(waitMs);
      }
    }
  }

  async #runSession(client: Client<typeof IngestService>): Promise<IngestSummary> {
    const over = new AbortController();
    const opened = Promise.withResolvers<void>();
    let summary: IngestSummary | undefined;
    try {
      const events = client.ingestSession(this.#send(opened.promise, over.signal), { timeoutMs: 0 });
      for await (const { event } of events) {
        if (event.case === "opened") {
          this.#acknowledge(event.value.resumeAfterSeq);
          opened.resolve();
        } else if (event.case === "committed") {
          this.#report(event.value.errors);
          this.#acknowledge(event.value.throughSeq);
        } else if (event.case === "draining") over.abort();
        else if (event.case === "summary") {
          this.#report(event.value.errors);
          this.#acknowledge(event.value.throughSeq);
          summary = event.value;
        }
      }
    } finally {
      over.abort();
      opened.resolve();
    }
    if (summary === undefined) throw new ConnectError("The stream ended early.", Code.Unavailable);
    return summary;
  }

  /** The messages of a session: what is not committed, first what was sent before. */
  async *#send(
    opened: Promise<void>,
    signal: AbortSignal,
  ): AsyncGenerator<MessageInitShape<typeof IngestRequestSchema>> {
    const { totalRows, ...target } = this.#target;
    const open = create(IngestOpenSchema, {
      ...target,
      onError: OnError.SKIP_ROW,
      ...(totalRows !== undefined && { totalRows }),
    });
    yield { message: { case: "open", value: open } };
    await opened;
    try {
      let sent = 0n;
      let batch: Batch | undefined;
      while ((batch = await this.#takeAfter(sent, signal)) !== undefined) {
        sent = batch.seq;
        yield { message: { case: "batch", value: { seq: batch.seq, rows: batch.rows } } };
      }
      // The service refuses to complete the ingest when it has counted another number.
      yield { message: { case: "finish", value: { rows: BigInt(this.rowsRead) } } };
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  async #takeAfter(seq: bigint, signal: AbortSignal): Promise<Batch | undefined> {
    signal.throwIfAborted();
    const kept = this.#unacknowledged.find((batch) => batch.seq > seq);
    if (kept !== undefined) return kept;
    while (this.#unacknowledged.length >= UNACKNOWLEDGED_MAX)
      await once(this.#acknowledgements, "acknowledged", { signal });
    for (;;) {
      const { value: batch, done } = await this.#read();
      if (done === true) return undefined;
      this.rowsRead += batch.rows.length;
      if (batch.seq > this.#committedSeq) {
        this.#unacknowledged.push(batch);
        return batch;
      }
      // An earlier run of this ingest has sent the batch, and the service has committed it.
      this.rowsBefore += batch.rows.length;
      this.#count(batch);
    }
  }

  async #read(): Promise<IteratorResult<Batch, undefined>> {
    try {
      return await this.#batches.next();
    } catch (error) {
      this.#inputFailure = { error };
      throw error;
    }
  }

  #acknowledge(throughSeq: bigint): void {
    if (throughSeq < this.#committedSeq)
      throw new Error("The service has fewer committed batches than before: was the database replaced?");
    this.#committedSeq = throughSeq;
    for (
      let [first] = this.#unacknowledged;
      first !== undefined && first.seq <= throughSeq;
      [first] = this.#unacknowledged
    ) {
      this.#unacknowledged.shift();
      this.#count(first);
    }
    this.#acknowledgements.emit("acknowledged");
  }

  #count({ rows, bytesRead }: Batch): void {
    this.rowsCommitted += rows.length;
    this.bytesCommitted = bytesRead;
  }

  /** Reports why rows were refused, once each: the summary repeats them. */
  #report(errors: readonly RowError[]): void {
    for (const error of errors) {
      const row = `${error.seq} ${error.index}`;
      if (this.#reported.has(row)) continue;
      this.#reported.add(row);
      const batch = this.#unacknowledged.find(({ seq }) => seq === error.seq);
      this.#events.refused(error, batch?.places[error.index]);
    }
  }
}

/** How long to wait before the next attempt, at least; undefined: there is no point in one. */
function readRetry(error: unknown): number | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  const [info] = error.findDetails(RetryInfoSchema);
  const retryDelay = info?.retryDelay;
  if (retryDelay !== undefined) return Number(retryDelay.seconds) * 1000 + retryDelay.nanos / 1e6;
  return TRANSIENT.includes(error.code) ? 0 : undefined;
}
