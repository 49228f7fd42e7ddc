import { limits } from "../../limits.ts";
import { beginWait } from "../../postgres/connection/wait-budget.ts";
import type { PoolOptions } from "../../postgres/row-security/call.ts";
import { FairQueue } from "../concurrency/fair-queue.ts";
import type { Limited } from "./limits.ts";

/** A call that takes a place. */
interface Waiter {
  caller: string;
  call: object;
  signal: AbortSignal | undefined;
}

const NEVER = new AbortController().signal;

/**
 * The places of projects and keys with a share of a pool's connections: a FairQueue for each pool and holder. A place is
 * taken before the connection, so the calls that wait for one do not stand in the pool's own queue, which all projects
 * share.
 */
export class ConnectionShares {
  readonly #pools = new WeakMap<PoolOptions, Map<string, FairQueue>>();
  readonly #refuse: (limited: Limited) => Error;

  /** `refuse` makes the error of a call whose project or key has its share. */
  constructor(refuse: (limited: Limited) => Error) {
    this.#refuse = refuse;
  }

  /**
   * Takes a place of each holder, one after the other: calls that share holders need the same order, or two could wait for each other.
   * The wait counts for the wait budget of the call.
   */
  async take(pool: PoolOptions, holders: readonly Limited[], waiter: Waiter): Promise<Disposable> {
    const { caller, call, signal } = waiter;
    const wait = beginWait();
    const endsAt =
      performance.now() + Math.min(wait?.leftMs ?? Infinity, limits.connection_share_wait_ms_max);
    // A call that goes on after its caller has left, such as to clean up, waits all the same.
    const left = signal === undefined || signal.aborted ? NEVER : signal;
    using places = new DisposableStack();
    try {
      for (const holder of holders) {
        const queue = this.#open(pool, holder);
        places.defer(() => this.#close(pool, holder, queue));
        places.use(await queue.acquire(caller, call, left, Math.max(0, endsAt - performance.now())));
      }
      return places.move();
    } finally {
      wait?.end();
    }
  }

  /** Whether each holder that has one place of a pool could get another one now. */
  hasSpare(pool: PoolOptions, holders: readonly Limited[]): boolean {
    return holders.every((holder) => {
      const queue = this.#pools.get(pool)?.get(nameOf(pool, holder));
      return sizeOf(pool, holder) > 1 && (queue === undefined || queue.free > 0);
    });
  }

  /** A changed limit begins with a new queue; those who hold a place of the old one keep it. */
  #open(pool: PoolOptions, holder: Limited): FairQueue {
    let queues = this.#pools.get(pool);
    if (queues === undefined) this.#pools.set(pool, (queues = new Map()));
    let queue = queues.get(nameOf(pool, holder));
    if (queue === undefined) {
      const permits = sizeOf(pool, holder);
      queue = new FairQueue({
        permits,
        waitingMax: permits * limits.connection_share_waiting_max,
        waitMsMax: limits.connection_share_wait_ms_max,
        refuse: () => this.#refuse(holder),
      });
      queues.set(nameOf(pool, holder), queue);
    }
    return queue;
  }

  /** Forgets a queue that nobody uses. */
  #close(pool: PoolOptions, holder: Limited, queue: FairQueue): void {
    const isIdle = queue.waiting === 0 && queue.free === sizeOf(pool, holder);
    const queues = this.#pools.get(pool);
    if (isIdle && queues?.get(nameOf(pool, holder)) === queue) queues.delete(nameOf(pool, holder));
  }
}

/** The connections that a holder may have of a pool. */
function sizeOf({ max }: PoolOptions, { limit }: Limited): number {
  return Math.max(1, Math.floor((max * limit) / 100));
}

function nameOf(pool: PoolOptions, holder: Limited): string {
  return `${holder.holder} ${sizeOf(pool, holder)}`;
}
