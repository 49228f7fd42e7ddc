import type { Principal } from "../api/principal.ts";
import { readScopes } from "../api/scope.ts";
import { rateLimited, unavailable } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import { cancellable, transaction } from "../postgres/transaction.ts";
import { isKey } from "./key.ts";
import { findLiveKeys, hasKeys, noteUses, type LiveKey } from "./keys.ts";

/** For how long what was read of a key holds: a revoked key is refused within this time. */
const FRESH_MS = 1_000;
/** How often the keys in use are read again, so that calls with them never wait for the database. */
const REFRESH_MS = 400;
/** A key counts as in use for this long after its last call. */
const IN_USE_MS = 60_000;
/** How often the times of last use are written. */
const USES_MS = 60_000;
/** Keys, and digests that are none, kept in memory; and digests that may wait to be looked up. */
const KEYS_MAX = 10_000;
const WAITING_MAX = 1_000;
/** Timeout of reading keys. */
const READ_MS = 3_000;

/** What is known of a key. */
interface Entry {
  principal: Principal;
  /** When the statement that read the key was sent. */
  readAtMs: number;
  expiresAtMs: number;
  usedAtMs: number;
}

/**
 * Finds the principals of keys, by their digests. Keys in use are cached, and read again together before what is
 * known of them is a second old: so a call with such a key costs no statement, and a revocation takes effect within a
 * second in every process, behind a PgBouncer too, through which no notification would come.
 */
export class KeyDirectory {
  /** Whether a text may be a key. */
  readonly isKey = isKey;
  readonly #database: Database;
  readonly #keys = new Map<string, Entry>();
  /** Digests that are no keys, with the time at which that was read. */
  readonly #unknown = new Map<string, number>();
  #waiting = new Map<string, PromiseWithResolvers<Entry | undefined>>();
  #isReading = false;
  #refresh: NodeJS.Timeout | undefined;
  #usesWrittenAtMs = performance.now();
  #isStopped = false;
  /** Counts the calls of `forget`: what was read before one may be out of date. */
  #forgets = 0;
  #hasKeys: boolean;

  /** Reads whether there are keys. */
  static async open(database: Database): Promise<KeyDirectory> {
    return new KeyDirectory(database, await hasKeys(database.pool, database.tables));
  }

  private constructor(database: Database, isInUse: boolean) {
    this.#database = database;
    this.#hasKeys = isInUse;
  }

  /** Whether a key was ever made, as far as this process knows. */
  get exist(): boolean {
    return this.#hasKeys;
  }

  /**
   * Returns the principal of a key; undefined when there is no such key. Throws UNAVAILABLE when the database has to be
   * asked and does not answer.
   */
  find(digest: string): Principal | undefined | Promise<Principal | undefined> {
    const nowMs = performance.now();
    const entry = this.#keys.get(digest);
    if (entry !== undefined) {
      entry.usedAtMs = nowMs;
      this.#keepFresh();
      if (nowMs - entry.readAtMs < FRESH_MS) return nowMs < entry.expiresAtMs ? entry.principal : undefined;
    } else if (nowMs - (this.#unknown.get(digest) ?? -Infinity) < FRESH_MS) return undefined;
    return this.#read(digest);
  }

  /** Forgets what is known, after keys or projects were changed in this process. */
  forget(): void {
    this.#hasKeys = true;
    this.#forgets++;
    this.#keys.clear();
    this.#unknown.clear();
  }

  /** Ends the work in the background, after writing the times of last use. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#refresh);
    await this.#writeUses().catch(() => {});
  }

  async #read(digest: string): Promise<Principal | undefined> {
    let waiter = this.#waiting.get(digest);
    if (waiter === undefined) {
      if (this.#waiting.size >= WAITING_MAX)
        throw rateLimited("Too many keys are being looked up: try again later.", 1000);
      waiter = Promise.withResolvers();
      this.#waiting.set(digest, waiter);
      void this.#readWaiting();
    }
    const entry = await waiter.promise;
    if (entry === undefined) return undefined;
    entry.usedAtMs = performance.now();
    this.#keepFresh();
    return entry.principal;
  }

  /** Looks up what waits, all at once and one statement at a time, so that guesses cannot take many connections. */
  async #readWaiting(): Promise<void> {
    if (this.#isReading) return;
    this.#isReading = true;
    while (this.#waiting.size > 0) {
      const batch = this.#waiting;
      this.#waiting = new Map();
      try {
        await this.#load([...batch.keys()]);
        for (const [digest, { resolve }] of batch) resolve(this.#keys.get(digest));
      } catch (cause) {
        const message = "The database, which holds the keys, cannot be reached.";
        const error = unavailable("DATABASE_UNAVAILABLE", message, { retryAfterMs: 1000, cause });
        for (const { reject } of batch.values()) reject(error);
      }
    }
    this.#isReading = false;
  }

  async #load(digests: readonly string[]): Promise<void> {
    const forgets = this.#forgets;
    const readAtMs = performance.now();
    const { probe, tables } = this.#database;
    const rows = await cancellable(probe, AbortSignal.timeout(READ_MS), (client) =>
      findLiveKeys(client, tables, digests),
    );
    if (forgets !== this.#forgets) return this.#load(digests);
    if (rows.length > 0) this.#hasKeys = true;
    const found = new Map(rows.map((row) => [row.digest, row]));
    for (const digest of digests) {
      const row = found.get(digest);
      const usedAtMs = this.#keys.get(digest)?.usedAtMs ?? readAtMs;
      // Deleted first: a Map keeps the order of insertion, so the oldest is the one that was not used for longest.
      this.#keys.delete(digest);
      if (row === undefined) keep(this.#unknown, digest, readAtMs);
      else keep(this.#keys, digest, toEntry(row, readAtMs, usedAtMs));
    }
  }

  /** Reads the keys in use again, and goes on while there are any. */
  #keepFresh(): void {
    if (this.#refresh !== undefined || this.#isStopped) return;
    const refresh = async () => {
      const sinceMs = performance.now() - IN_USE_MS;
      const inUse = [...this.#keys].filter(([, { usedAtMs }]) => usedAtMs > sinceMs);
      // A failure is left to the calls: the keys are read for them once they are no longer fresh.
      if (inUse.length > 0) await this.#load(inUse.map(([digest]) => digest)).catch(() => {});
      if (performance.now() - this.#usesWrittenAtMs > USES_MS) await this.#writeUses().catch(() => {});
      this.#refresh = undefined;
      if (inUse.length > 0) this.#keepFresh();
    };
    this.#refresh = setTimeout(() => void refresh(), REFRESH_MS).unref();
  }

  async #writeUses(): Promise<void> {
    const sinceMs = this.#usesWrittenAtMs;
    this.#usesWrittenAtMs = performance.now();
    const used = [...this.#keys.values()].filter(({ usedAtMs }) => usedAtMs > sinceMs);
    if (used.length === 0) return;
    const uses = used.map(({ principal, usedAtMs }) => ({
      id: principal.keyId,
      at: new Date(performance.timeOrigin + usedAtMs),
    }));
    const { pool, tables } = this.#database;
    await transaction(pool, (client) => noteUses(client, tables, uses));
  }
}

function toEntry(row: LiveKey, readAtMs: number, usedAtMs: number): Entry {
  return {
    principal: {
      project: row.project_id,
      keyId: row.id,
      scopes: readScopes(row.scopes),
      storeIds: row.store_ids === null ? undefined : new Set(row.store_ids),
      caller: `${row.project_id}/${row.id}`,
    },
    readAtMs,
    expiresAtMs: row.expires_in_ms === null ? Infinity : readAtMs + row.expires_in_ms,
    usedAtMs,
  };
}

/** Adds an entry, and drops the oldest when there are too many. */
function keep<Value>(entries: Map<string, Value>, digest: string, value: Value): void {
  entries.delete(digest);
  entries.set(digest, value);
  const [oldest] = entries.keys();
  if (entries.size > KEYS_MAX && oldest !== undefined) entries.delete(oldest);
}
