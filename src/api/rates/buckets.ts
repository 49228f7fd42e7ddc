import { keep } from "../fresh-cache.ts";
import { TokenBucket } from "limiter";

/** Buckets kept; the one that was not used for longest is dropped, and would be full by then, or nearly so. */
const BUCKETS_MAX = 20_000;

/** The token buckets of one kind of limit, one for each project and key that has the limit. */
export class Buckets {
  readonly #buckets = new Map<string, TokenBucket>();
  readonly #intervalMs: number;

  /** A bucket with the limit `n` holds `n` tokens, and gets `n` back within `intervalMs`. */
  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** The bucket of a holder; a new one is full. A changed limit begins with a new bucket. */
  of(holder: string, limit: number): TokenBucket {
    let bucket = this.#buckets.get(holder);
    if (bucket?.bucketSize !== limit) {
      bucket = new TokenBucket({ bucketSize: limit, tokensPerInterval: limit, interval: this.#intervalMs });
      bucket.content = limit;
    }
    keep(this.#buckets, holder, bucket, BUCKETS_MAX);
    bucket.drip();
    return bucket;
  }
}

/** Milliseconds until the bucket is full again. */
export function untilFullMs({ bucketSize, content, tokensPerInterval, interval }: TokenBucket): number {
  return Math.ceil(((bucketSize - content) * Number(interval)) / tokensPerInterval);
}
