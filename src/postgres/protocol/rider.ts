import { AsyncLocalStorage } from "node:async_hooks";

const riders = new AsyncLocalStorage<Rider>();

/** Composes an SQL statement, whose values are literals, that inserts rows in JSON. */
type ComposeRider = (rows: readonly string[]) => string;

/**
 * A row whose INSERT is sent with the COMMIT of a call's first transaction that writes, and so is committed together with it,
 * without a round trip of its own. When the transaction is rolled back, the next one takes the row.
 */
export class Rider {
  readonly #row: string;
  readonly #compose: ComposeRider;
  #state: "waiting" | "sent" | "committed" | "over" = "waiting";

  constructor(row: string, compose: ComposeRider) {
    this.#row = row;
    this.#compose = compose;
  }

  /**
   * The statement of riders that are committed together, which all must have been made with the same `compose`; undefined:
   * there are none. One for all, since to parse and plan each would take longer than to insert the rows.
   */
  static statementOf(riders: readonly Rider[]): string | undefined {
    const [first] = riders;
    return first && first.#compose(riders.map((rider) => rider.#row));
  }

  get isCommitted(): boolean {
    return this.#state === "committed";
  }

  /** Whether the transaction that asks is to send the row. */
  take(): boolean {
    if (this.#state !== "waiting") return false;
    this.#state = "sent";
    return true;
  }

  /** Reports the end of the transaction that took the row. */
  settle(isCommitted: boolean): void {
    if (this.#state === "sent") this.#state = isCommitted ? "committed" : "waiting";
  }

  /** Ends the ride: work that the call has left behind must not take the row along. */
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
