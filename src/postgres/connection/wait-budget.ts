import { AsyncLocalStorage } from "node:async_hooks";

const calls = new AsyncLocalStorage<WaitBudget>();

/** How long the connections of one call may be waited for, all waits together. */
class WaitBudget {
  #leftMs: number;
  #waiting = 0;
  #since = 0;
  isOver = false;

  constructor(leftMs: number) {
    this.#leftMs = leftMs;
  }

  /** Begins a wait; waits at the same time count once. */
  begin(): Wait {
    const now = performance.now();
    if (this.#waiting++ === 0) this.#since = now;
    const leftMs = Math.max(0, this.#leftMs - (now - this.#since));
    return { leftMs, end: () => this.#end() };
  }

  #end(): void {
    if (--this.#waiting === 0) this.#leftMs -= performance.now() - this.#since;
  }
}

/** A wait for a connection. */
interface Wait {
  /** Milliseconds that are left of the budget. */
  leftMs: number;
  /** Ends the wait, whatever came of it. */
  end: () => void;
}

/**
 * Runs a call, whose waits for a connection may take `waitMs` together: without it, a call that needs ten
 * connections, one after the other, could wait ten times as long as the limit to one wait. Work that the call
 * leaves behind has no such limit once the call has ended.
 */
export async function withWaitBudget<T>(waitMs: number, call: () => Promise<T>): Promise<T> {
  const budget = new WaitBudget(waitMs);
  try {
    return await calls.run(budget, call);
  } finally {
    budget.isOver = true;
  }
}

/** Starts work that several calls share, outside of the budget of the call that happens to start it. */
export function withoutWaitBudget<T>(work: () => T): T {
  return calls.exit(work);
}

/** Begins a wait of the current call; undefined outside of calls. */
export function beginWait(): Wait | undefined {
  const budget = calls.getStore();
  return budget === undefined || budget.isOver ? undefined : budget.begin();
}
