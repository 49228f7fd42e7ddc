/** The state of a load: its progress, and the batches kept until they are committed. */
import { EventEmitter, once } from "node:events";
import { statSync } from "node:fs";
import { readBatches, type Batch } from "./rows.ts";
import type { RowError } from "./service.ts";

/** Maximum number of unacknowledged batches: bounds the memory. The service commits up to 4 MiB at a time. */
const UNACKNOWLEDGED_MAX = 16;

/** The command line options. */
export interface Options {
  address: string;
  store: string;
  file: string;
  key: string | undefined;
  ingestId: string;
  mode: string;
  tls: boolean;
}

/** The state of a load, across all its sessions. */
export class Load {
  readonly options: Options;
  /** The service has committed every batch up to this number. */
  committedSeq = 0;
  rowsRead = 0;
  #rowsCommitted = 0;
  #bytesCommitted = 0;
  readonly #fileBytes: number;
  readonly #batches: AsyncGenerator<Batch>;
  readonly #unacknowledged: Batch[] = [];
  readonly #acknowledgements = new EventEmitter();
  readonly #reported = new Set<string>();
  readonly #startedAt = performance.now();

  constructor(options: Options) {
    this.options = options;
    this.#fileBytes = statSync(options.file).size;
    this.#batches = readBatches(options.file);
  }

  /**
   * Returns the next uncommitted batch after `seq`; undefined at the end. Waits while too many are
   * unacknowledged.
   */
  async takeAfter(seq: number, signal: AbortSignal): Promise<Batch | undefined> {
    const kept = this.#unacknowledged.find((batch) => batch.seq > seq);
    if (kept !== undefined) return kept;
    while (this.#unacknowledged.length >= UNACKNOWLEDGED_MAX)
      await once(this.#acknowledgements, "acknowledged", { signal });
    for (;;) {
      const { value: batch, done } = await this.#batches.next();
      if (done === true) return undefined;
      this.rowsRead += batch.lines.length;
      if (batch.seq > this.committedSeq) {
        this.#unacknowledged.push(batch);
        return batch;
      }
      // An earlier run of this ingest has sent the batch, and the service has committed it.
      this.#count(batch);
    }
  }

  /**
   * Continues after the last committed batch: acknowledgements may have been lost with the previous
   * connection.
   */
  resume(throughSeq: number): void {
    if (throughSeq < this.committedSeq)
      throw new Error("The service has fewer committed batches than before: was the database replaced?");
    this.acknowledge(throughSeq);
  }

  /** Forgets the batches up to this number, which are committed. */
  acknowledge(throughSeq: number): void {
    this.committedSeq = throughSeq;
    while ((this.#unacknowledged[0]?.seq ?? Infinity) <= throughSeq)
      this.#count(this.#unacknowledged.shift() as Batch);
    this.#acknowledgements.emit("acknowledged");
  }

  #count({ lines, bytes }: Batch): void {
    this.#rowsCommitted += lines.length;
    this.#bytesCommitted += bytes;
  }

  /**
   * Prints why rows were refused, once per row: the summary repeats errors whose acknowledgement may be lost.
   */
  report(errors: RowError[]): void {
    for (const { seq, index, id, field, message } of errors) {
      const place = `batch ${seq}, row ${index}`;
      if (this.#reported.has(place)) continue;
      this.#reported.add(place);
      const line = this.#unacknowledged.find((batch) => batch.seq === seq)?.lines[index];
      say(`Refused ${line === undefined ? place : `line ${line}`} (id '${id}'): ${field}: ${message}`);
    }
  }

  /** A progress bar of the committed bytes, with numbers. */
  progress(): string {
    const share = this.#fileBytes === 0 ? 1 : Math.min(1, this.#bytesCommitted / this.#fileBytes);
    const perSecond = (this.#rowsCommitted * 1000) / (performance.now() - this.#startedAt);
    const bar = "#".repeat(Math.floor(share * 30)).padEnd(30, "-");
    return `[${bar}] ${this.rowsRead} rows read, ${this.#rowsCommitted} committed, ${perSecond.toFixed(0)} rows/s`;
  }
}

/** Prints a text to standard error; on a terminal the next text overwrites it. */
export function show(text: string): void {
  process.stderr.write(process.stderr.isTTY ? `\r${text}\x1b[K` : `${text}\n`);
}

/** Prints a line to standard error. */
export function say(text: string): void {
  show(process.stderr.isTTY ? `${text}\n` : text);
}
