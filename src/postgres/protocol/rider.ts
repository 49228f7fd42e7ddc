import { AsyncLocalStorage } from "node:async_hooks";

const riders = new AsyncLocalStorage<Rider>();

/**
 * A statement that is sent with the COMMIT of a call's first transaction that writes, and so is committed together with
 * it, without a round trip of its own. When the transaction is rolled back, the next one takes the statement.
 */
export class Rider {
  /** One SQL statement, whose values are literals. */
  readonly statement: string;
  #state: "waiting" | "sent" | "committed" | "over" = "waiting";

  constructor(statement: string) {
    this.statement = statement;
  }

  get isCommitted(): boolean {
    return this.#state === "committed";
  }

  /** Whether the transaction that asks is to send the statement. */
  take(): boolean {
    if (this.#state !== "waiting") return false;
    this.#state = "sent";
    return true;
  }

  /** Reports the end of the transaction that took the statement. */
  settle(isCommitted: boolean): void {
    if (this.#state === "sent") this.#state = isCommitted ? "committed" : "waiting";
  }

  /** Ends the ride: work that the call has left behind must not take the statement along. */
  end(): void {
    if (!this.isCommitted) this.#state = "over";
  }
}

/** Runs a call whose first transaction takes the rider along. */
export async function withRider<T>(rider: Rider, call: () => Promise<T>): Promise<T> {
  try {
    return await riders.run(rider, call);
  } finally {
    rider.end();
  }
}

/** The rider of the current call for a transaction about to commit; undefined: there is none, or it is taken. */
export function takeRider(): Rider | undefined {
  const rider = riders.getStore();
  return rider?.take() === true ? rider : undefined;
}
