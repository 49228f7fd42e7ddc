import type { AuditEntry } from "../api/audit.ts";
import type { Database } from "../postgres/database.ts";
import { transaction } from "../postgres/transaction.ts";
import { insertEntries } from "./rows.ts";

/** Entries of one INSERT, and entries that may wait. */
const BATCH_ENTRIES = 1_000;
const WAITING_MAX = 10_000;
/** How often waiting entries are written. */
const INTERVAL_MS = 1_000;

/** Writes entries in batches, for calls that do not wait for them. Entries beyond `WAITING_MAX` are dropped. */
export class EntryQueue {
  readonly #database: Database;
  readonly #drop: (entries: number) => void;
  readonly #timer: NodeJS.Timeout;
  #waiting: AuditEntry[] = [];
  #writing: Promise<void> | undefined;

  /** `onDrop` is called for dropped entries, `onFailure` when a batch was not written, which is tried again. */
  constructor(database: Database, onDrop: (entries: number) => void, onFailure: (error: unknown) => void) {
    this.#database = database;
    this.#drop = onDrop;
    this.#timer = setInterval(() => void this.#write().catch(onFailure), INTERVAL_MS).unref();
  }

  /** Adds an entry. */
  add(entry: AuditEntry): void {
    if (this.#waiting.length >= WAITING_MAX) return this.#drop(1);
    this.#waiting.push(entry);
  }

  /** Writes what waits, and ends. Entries that cannot be written are dropped. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#writing?.catch(() => {});
    await this.#write().catch(() => this.#drop(this.#waiting.length));
  }

  async #write(): Promise<void> {
    if (this.#writing !== undefined || this.#waiting.length === 0) return;
    this.#writing = this.#writeAll();
    try {
      await this.#writing;
    } finally {
      this.#writing = undefined;
    }
  }

  async #writeAll(): Promise<void> {
    const { pool, tables } = this.#database;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.slice(0, BATCH_ENTRIES);
      // Entries have ids, so a batch whose commit was not acknowledged can be sent again.
      await transaction(pool, (client) => insertEntries(client, tables, batch));
      this.#waiting.splice(0, batch.length);
    }
  }
}
