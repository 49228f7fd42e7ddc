import type { AuditEntry } from "../api/audit.ts";
import type { Database } from "../postgres/database.ts";
import { Rider, withRider } from "../postgres/protocol/rider.ts";
import { transaction } from "../postgres/transaction.ts";
import { EntryQueue } from "./queue.ts";
import { Refusals } from "./refusals.ts";
import { insertEntries, insertionOf, toRow } from "./rows.ts";

/** Groups of equal failed attempts per window, and its length. */
const GROUPS_MAX = 100;
const WINDOW_MS = 300_000;

/** The logger of the audit log's stream. */
export interface AuditLogger {
  info: (line: object, message: string) => void;
  warn: (line: object, message: string) => void;
}

/** What the recorder is told. */
export interface RecorderOptions {
  /** Whether reads, searches and writes of data are recorded too. */
  includesReads: boolean;
  /** Called with the number of entries that were lost. */
  onDrop: (entries: number) => void;
}

/** Records calls in the audit log, its table and its stream of log lines. */
export class AuditRecorder {
  readonly includesReads: boolean;
  readonly #database: Database;
  readonly #log: AuditLogger;
  readonly #queue: EntryQueue;
  readonly #refusals: Refusals;
  readonly #windows: NodeJS.Timeout;

  constructor(database: Database, { includesReads, onDrop }: RecorderOptions, log: AuditLogger) {
    this.includesReads = includesReads;
    this.#database = database;
    this.#log = log;
    this.#queue = new EntryQueue(database, onDrop, (err) =>
      log.warn({ err }, "Entries of the audit log were not written yet; they are kept and tried again"),
    );
    this.#refusals = new Refusals(GROUPS_MAX, (entry) => this.note(entry));
    this.#windows = setInterval(() => this.#refusals.endWindow(), WINDOW_MS).unref();
  }

  /**
   * Runs an act, and resolves when its entry is committed: in the act's own transaction, or, when it makes something
   * whose id only `complete` adds to the entry, in one after it.
   */
  async act<T>(
    entry: AuditEntry,
    isCreation: boolean,
    run: () => Promise<T>,
    complete: (reply: T) => void,
  ): Promise<T> {
    const { pool, tables } = this.#database;
    const rider = isCreation ? undefined : new Rider(toRow(entry), (rows) => insertionOf(tables, rows));
    const reply = await (rider === undefined ? run() : withRider(rider, run));
    complete(reply);
    if (rider?.isCommitted !== true)
      await transaction(pool, (client) => insertEntries(client, tables, [entry]));
    this.#write(entry);
    return reply;
  }

  /** Records a call without waiting. */
  note(entry: AuditEntry): void {
    this.#queue.add(entry);
    this.#write(entry);
  }

  /** Records a failed call without waiting; counts it where an equal one was recorded in the same window. */
  refuse(entry: AuditEntry): void {
    this.#refusals.add(entry);
  }

  /** Writes what is not written yet. */
  async stop(): Promise<void> {
    clearInterval(this.#windows);
    this.#refusals.endWindow();
    await this.#queue.stop();
  }

  #write({ at, ...entry }: AuditEntry): void {
    this.#log.info({ audit: true, ...entry, at: at.toISOString() }, entry.event);
  }
}
