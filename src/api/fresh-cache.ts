import { rateLimited, unavailable } from "../errors.ts";

/** For how long what was read holds: a revoked key is refused within this time. */
const FRESH_MS = 1_000;
/** How often what is in use is read again, so that calls that need it never wait for the database. */
const REFRESH_MS = 400;
/** A value counts as in use for this long after it was last asked for. */
const IN_USE_MS = 60_000;
/** Values, and ids that have none, kept in memory; and ids that may wait to be looked up. */
const ENTRIES_MAX = 10_000;
const WAITING_MAX = 1_000;

/** A value, and when it was read and last asked for. */
export interface Entry<Value> {
  value: Value;
  /** When the statement that read the value was sent. */
  readAtMs: number;
  usedAtMs: number;
}

/** Where the values of a cache come from. */
export interface Source<Value> {
  /** Reads the values of ids; ids without a value are left out. */
  read: (ids: readonly string[]) => Promise<ReadonlyMap<string, Value>>;
  /** Called each time that the values in use were read again. Must not reject. */
  onRefresh?: () => Promise<void>;
}

/**
 * A cache of rows that say who may call. Rows in use are read again together before what is known of them is a second
 * old: so a call costs no statement, and a revocation takes effect within a second in every process, behind a PgBouncer
 * too, through which no notification would come.
 */
export class FreshCache<Value> {
  readonly #source: Source<Value>;
  readonly #entries = new Map<string, Entry<Value>>();
  /** Ids without a value, with the time at which that was read. */
  readonly #unknown = new Map<string, number>();
  #waiting = new Map<string, PromiseWithResolvers<Value | undefined>>();
  #isReading = false;
  #refresh: NodeJS.Timeout | undefined;
  #isStopped = false;
  /** Counts the calls of `forget`: what was read before one may be out of date. */
  #forgets = 0;

  constructor(source: Source<Value>) {
    this.#source = source;
  }

  /**
   * Returns the entry of an id; undefined when it has none. Throws UNAVAILABLE when the database has to be asked and
   * does not answer.
   */
  find(id: string): Value | undefined | Promise<Value | undefined> {
    const nowMs = performance.now();
    const entry = this.#entries.get(id);
    if (entry !== undefined) {
      entry.usedAtMs = nowMs;
      this.#keepFresh();
      if (nowMs - entry.readAtMs < FRESH_MS) return entry.value;
    } else if (nowMs - (this.#unknown.get(id) ?? -Infinity) < FRESH_MS) return undefined;
    return this.#read(id);
  }

  /** Forgets what is known, after rows were changed in this process. */
  forget(): void {
    this.#forgets++;
    this.#entries.clear();
    this.#unknown.clear();
  }

  /** The values that were asked for since a time. */
  usedSince(sinceMs: number): Entry<Value>[] {
    return [...this.#entries.values()].filter(({ usedAtMs }) => usedAtMs > sinceMs);
  }

  /** Ends the work in the background. */
  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#refresh);
  }

  async #read(id: string): Promise<Value | undefined> {
    let waiter = this.#waiting.get(id);
    if (waiter === undefined) {
      if (this.#waiting.size >= WAITING_MAX)
        throw rateLimited("Too many ids are being looked up: try again later.", 1000);
      waiter = Promise.withResolvers();
      this.#waiting.set(id, waiter);
      void this.#readWaiting();
    }
    const value = await waiter.promise;
    if (value !== undefined) this.#keepFresh();
    return value;
  }

  /** Looks up what waits, all at once and one statement at a time, so that guesses cannot take many connections. */
  async #readWaiting(): Promise<void> {
    if (this.#isReading) return;
    this.#isReading = true;
    while (this.#waiting.size > 0) {
      const batch = this.#waiting;
      this.#waiting = new Map();
      try {
        await this.#load([...batch.keys()], performance.now());
        for (const [id, { resolve }] of batch) resolve(this.#entries.get(id)?.value);
      } catch (cause) {
        const message = "The database cannot be reached.";
        const error = unavailable("DATABASE_UNAVAILABLE", message, { retryAfterMs: 1000, cause });
        for (const { reject } of batch.values()) reject(error);
      }
    }
    this.#isReading = false;
  }

  /** Reads ids again, or, with `usedAtMs`, for the first time. */
  async #load(ids: readonly string[], usedAtMs = -Infinity): Promise<void> {
    const forgets = this.#forgets;
    const readAtMs = performance.now();
    const found = await this.#source.read(ids);
    if (forgets !== this.#forgets) return this.#load(ids, usedAtMs);
    for (const id of ids) {
      const value = found.get(id);
      const lastMs = Math.max(this.#entries.get(id)?.usedAtMs ?? readAtMs, usedAtMs);
      // Deleted first: a Map keeps the order of insertion, so the oldest is the one that was not used for longest.
      this.#entries.delete(id);
      if (value === undefined) keep(this.#unknown, id, readAtMs, ENTRIES_MAX);
      else keep(this.#entries, id, { value, readAtMs, usedAtMs: lastMs }, ENTRIES_MAX);
    }
  }

  /** Reads the values in use again, and goes on while there are any. */
  #keepFresh(): void {
    if (this.#refresh !== undefined || this.#isStopped) return;
    const refresh = async () => {
      const sinceMs = performance.now() - IN_USE_MS;
      const inUse = [...this.#entries].filter(([, { usedAtMs }]) => usedAtMs > sinceMs).map(([id]) => id);
      // A failure is left to the calls: the rows are read for them once they are no longer fresh.
      if (inUse.length > 0) await this.#load(inUse).catch(() => {});
      await this.#source.onRefresh?.();
      this.#refresh = undefined;
      if (inUse.length > 0) this.#keepFresh();
    };
    this.#refresh = setTimeout(() => void refresh(), REFRESH_MS).unref();
  }
}

/**
 * Adds an entry to a map of at most `entriesMax`, and drops the oldest when there are too many. An entry that was there becomes the
 * newest: a Map keeps the order of insertion.
 */
export function keep<Value>(entries: Map<string, Value>, id: string, value: Value, entriesMax: number): void {
  entries.delete(id);
  entries.set(id, value);
  const [oldest] = entries.keys();
  if (entries.size > entriesMax && oldest !== undefined) entries.delete(oldest);
}
