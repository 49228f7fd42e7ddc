import { setTimeout as delay } from "node:timers/promises";
import type { TokenBucket } from "limiter";
import { limitReached } from "../../errors.ts";
import type { ConnectionPlaces } from "../../postgres/row-security/call.ts";
import type { ByteBudget } from "../byte-budget.ts";
import type { Principal } from "../principal.ts";
import { Buckets, untilFullMs } from "./buckets.ts";
import { writeDuration } from "./duration.ts";
import { ConnectionShares } from "./connection-shares.ts";
import type { Limited, LimitName, ProjectLimits } from "./limits.ts";

/** A limit to what goes on at the same time. */
export type ConcurrencyLimit = "max_concurrent_searches" | "max_concurrent_streams";

const NOUNS: Record<Exclude<LimitName, "max_ingest_memory_percent" | "max_file_workers">, string> = {
  max_requests_per_1_minute: "requests per minute",
  max_rows_per_1_second: "rows per second",
  max_concurrent_searches: "searches at the same time",
  max_concurrent_streams: "streams at the same time",
  max_connection_percent: "percent of the connections to Postgres",
};

/** How long a call that finds too many others under way is told to wait. */
const CONCURRENCY_RETRY_MS = 1_000;

const nothing: Disposable = { [Symbol.dispose]: () => {} };

/**
 * Holds callers to the limits of their projects and keys, each before the work that it bounds. Counts what this process
 * does: several processes together allow up to as many times the limit.
 */
export class Limiter {
  readonly #projects: ProjectLimits;
  readonly #onLimited: (limit: LimitName) => void;
  readonly #requests = new Buckets(60_000);
  readonly #rows = new Buckets(1_000);
  readonly #underWay = new Map<string, number>();
  readonly #shares = new ConnectionShares((full) =>
    this.#refusal("max_connection_percent", full, CONCURRENCY_RETRY_MS),
  );

  /** `onLimited` is called for each call that `admit` refuses. */
  constructor(projects: ProjectLimits, onLimited: (limit: LimitName) => void) {
    this.#projects = projects;
    this.#onLimited = onLimited;
  }

  /** Counts a request of a caller and returns the caller. Throws RATE_LIMIT_EXCEEDED when it comes too early. */
  admit(caller: Principal): Principal | Promise<Principal> {
    const known = this.#projects.find(caller.project);
    if (known instanceof Promise) return known.then(() => this.#admit(caller));
    return this.#admit(caller);
  }

  /** See `ProjectLimits.mayHaveQuotas`. */
  mayHaveQuotas(project: string): boolean {
    return this.#projects.mayHaveQuotas(project);
  }

  /** The headers that tell a caller how many requests are left, as OpenAI names them; undefined: there is no limit. */
  headers(caller: Principal): Record<string, string> | undefined {
    const buckets = this.#buckets(caller, this.#requests, "max_requests_per_1_minute");
    const [tightest] = buckets.toSorted((a, b) => a.bucket.content - b.bucket.content);
    return tightest === undefined ? undefined : describeBucket(tightest.bucket);
  }

  /**
   * Counts rows that a call adds. Throws RATE_LIMIT_EXCEEDED while rows of earlier calls are not made up for: a call with
   * more rows than the limit is let through, and later ones wait for its rows.
   */
  takeRows(caller: Principal, rows: number): void {
    const late = this.#takeRows(caller, rows);
    if (late !== undefined) throw this.#refusal("max_rows_per_1_second", late, late.waitMs);
  }

  /** As `takeRows`, but returns false where that throws. */
  tryTakeRows(caller: Principal, rows: number): boolean {
    return this.#takeRows(caller, rows) === undefined;
  }

  /** As `takeRows`, but waits where that throws (backpressure). Throws the signal's reason when it aborts. */
  async waitForRows(caller: Principal, rows: number, signal: AbortSignal): Promise<void> {
    for (let late = this.#takeRows(caller, rows); late !== undefined; late = this.#takeRows(caller, rows)) {
      await delay(Math.min(late.waitMs, PAUSE_MS_MAX), undefined, { signal }).catch(() => {});
      signal.throwIfAborted();
    }
  }

  /** Counts rows; where rows of before are not made up for, counts nothing and returns the bucket to wait for. */
  #takeRows(caller: Principal, rows: number): LateBucket | undefined {
    const buckets = this.#buckets(caller, this.#rows, "max_rows_per_1_second");
    const late = findLatest(buckets, 0);
    if (late === undefined) for (const { bucket } of buckets) bucket.content -= rows;
    return late;
  }

  /**
   * Enters a call that counts for a limit of what goes on at the same time; disposing of the result ends it. Throws
   * RATE_LIMIT_EXCEEDED when as many are under way as may be.
   */
  enter(caller: Principal, name: ConcurrencyLimit): Disposable {
    const limited = this.#limitsOf(caller, name);
    if (limited.length === 0) return nothing;
    const full = limited.find(({ holder, limit }) => this.#countOf(name, holder) >= limit);
    if (full !== undefined) throw this.#refusal(name, full, CONCURRENCY_RETRY_MS);
    const count = (by: number) => {
      for (const { holder } of limited) {
        const left = this.#countOf(name, holder) + by;
        if (left === 0) this.#underWay.delete(`${name} ${holder}`);
        else this.#underWay.set(`${name} ${holder}`, left);
      }
    };
    count(1);
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) count(-1);
        isHeld = false;
      },
    };
  }

  /** The connections that the caller may hold at the same time, by what the limits are whenever a connection is needed. */
  placesOf(caller: Principal): ConnectionPlaces {
    // The key's first: a call that waits for its key's place must not hold one of the project's.
    const holders = () => this.#limitsOf(caller, "max_connection_percent").toReversed();
    return {
      owner: caller.limits?.max_connection_percent === undefined ? "" : caller.keyId,
      take: (pool, call, signal) => {
        const limited = holders();
        if (limited.length === 0) return undefined;
        return this.#shares.take(pool, limited, { caller: caller.caller, call, signal });
      },
      hasSpare: (pool) => this.#shares.hasSpare(pool, holders()),
    };
  }

  /** The part of a memory budget that the caller may use. */
  shareOf(budget: ByteBudget, caller: Principal): ByteBudget {
    let share = budget;
    for (const { holder, limit } of this.#limitsOf(caller, "max_ingest_memory_percent"))
      share = share.part(`${holder} ${limit}`, limit / 100);
    return share.shareOf(caller.caller);
  }

  #admit(caller: Principal): Principal {
    const buckets = this.#buckets(caller, this.#requests, "max_requests_per_1_minute");
    const late = findLatest(buckets, 1);
    if (late !== undefined) {
      this.#onLimited("max_requests_per_1_minute");
      throw this.#refusal("max_requests_per_1_minute", late, late.waitMs, describeBucket(late.bucket));
    }
    for (const { bucket } of buckets) bucket.tryRemoveTokens(1);
    return caller;
  }

  #buckets(caller: Principal, buckets: Buckets, name: LimitName): Bucket[] {
    return this.#limitsOf(caller, name).map((limited) => ({
      ...limited,
      bucket: buckets.of(limited.holder, limited.limit),
    }));
  }

  /** The limits of one name that a caller has: the project's, and the key's own. */
  #limitsOf({ project, keyId, limits }: Principal, name: LimitName): Limited[] {
    const ofProject = this.#projects.current(project)[name];
    const ofKey = limits?.[name];
    return [
      ...(ofProject === undefined ? [] : [{ holder: `project:${project}`, limit: ofProject }]),
      ...(ofKey === undefined ? [] : [{ holder: `key:${keyId}`, limit: ofKey }]),
    ];
  }

  #countOf(name: ConcurrencyLimit, holder: string): number {
    return this.#underWay.get(`${name} ${holder}`) ?? 0;
  }

  #refusal(
    name: keyof typeof NOUNS,
    { holder, limit }: Limited,
    retryAfterMs: number,
    headers?: Record<string, string>,
  ): Error {
    const [kind, id] = holder.split(":", 2);
    const wait = writeDuration(retryAfterMs);
    const message = `Rate limit reached for ${kind} '${id}': ${limit} ${NOUNS[name]}. Please try again in ${wait}.`;
    return limitReached(message, { limit: name, subject: holder, retryAfterMs, headers });
  }
}

/** The longest pause between two looks at a bucket, whose limit may have been raised meanwhile. */
const PAUSE_MS_MAX = 1_000;

interface Bucket extends Limited {
  bucket: TokenBucket;
}

/** A bucket to wait for. */
interface LateBucket extends Bucket {
  waitMs: number;
}

/** The bucket that takes the longest to have `count` tokens, unless all have them. */
function findLatest(buckets: readonly Bucket[], count: number): LateBucket | undefined {
  const [latest] = buckets
    .map((one) => ({ ...one, waitMs: one.bucket.getWaitTime(count) }))
    .toSorted((a, b) => b.waitMs - a.waitMs);
  return latest === undefined || latest.waitMs === 0 ? undefined : latest;
}

function describeBucket(bucket: TokenBucket): Record<string, string> {
  return {
    "x-ratelimit-limit-requests": String(bucket.bucketSize),
    "x-ratelimit-remaining-requests": String(Math.max(0, Math.floor(bucket.content))),
    "x-ratelimit-reset-requests": writeDuration(untilFullMs(bucket)),
  };
}
