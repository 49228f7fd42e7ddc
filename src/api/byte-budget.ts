import { rateLimited } from "../errors.ts";

/** A part of a budget, to be given back. */
export interface Reservation extends Disposable {
  readonly bytes: number;
}

interface Waiter {
  bytes: number;
  grant: (reservation: Reservation) => void;
}

/**
 * A process-wide number of bytes that bulk ingest may hold, so that memory is bounded by intent and
 * not by hope. Streams reserve a fixed part for as long as they are open, at most half of the whole,
 * and more for rows until these are written. Reservations for rows are granted in the order they
 * were asked for. All are given back by disposing of them.
 */
export class ByteBudget {
  readonly #bytesMax: number;
  #streams = 0;
  #rows = 0;
  readonly #waiting: Waiter[] = [];

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes reserved now. */
  get used(): number {
    return this.#streams + this.#rows;
  }

  /** Reserves for a stream; undefined when there are too many, or the rows of others fill the memory. */
  tryOpen(bytes: number): Reservation | undefined {
    const isAmple = this.#streams + bytes <= this.#bytesMax / 2 && this.used + bytes <= this.#bytesMax;
    if (this.#streams > 0 && !isAmple) return undefined;
    this.#streams += bytes;
    return reservation(bytes, () => {
      this.#streams -= bytes;
      this.#grantNext();
    });
  }

  /** Reserves for rows if that is possible at once and nobody waits. */
  tryReserve(bytes: number): Reservation | undefined {
    return this.#waiting.length === 0 && this.#fits(bytes) ? this.#take(bytes) : undefined;
  }

  /** Reserves for rows, waiting until others have given back enough. */
  async reserve(bytes: number, signal: AbortSignal): Promise<Reservation> {
    const granted = this.tryReserve(bytes);
    if (granted !== undefined) return granted;
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<Reservation>();
    const waiter: Waiter = { bytes, grant: resolve };
    this.#waiting.push(waiter);
    const giveUp = () => {
      const index = this.#waiting.indexOf(waiter);
      if (index !== -1) this.#waiting.splice(index, 1);
      this.#grantNext();
      reject(signal.reason as Error);
    };
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      return await promise;
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  /** The same, for at most `waitMs`; then RATE_LIMIT_EXCEEDED with this message. */
  async reserveWithin(
    bytes: number,
    waitMs: number,
    message: string,
    signal: AbortSignal,
  ): Promise<Reservation> {
    // A timer for every message of a stream would be work for nothing.
    const granted = this.tryReserve(bytes);
    if (granted !== undefined) return granted;
    const patience = AbortSignal.timeout(waitMs);
    try {
      return await this.reserve(bytes, AbortSignal.any([signal, patience]));
    } catch (error) {
      throw patience.aborted ? rateLimited(message, 1000) : error;
    }
  }

  /** When no other rows are held, any number is granted: else those who wait would wait for ever. */
  #fits(bytes: number): boolean {
    return this.#rows === 0 || this.used + bytes <= this.#bytesMax;
  }

  #take(bytes: number): Reservation {
    this.#rows += bytes;
    return reservation(bytes, () => {
      this.#rows -= bytes;
      this.#grantNext();
    });
  }

  #grantNext(): void {
    for (let next = this.#waiting[0]; next !== undefined && this.#fits(next.bytes); next = this.#waiting[0]) {
      this.#waiting.shift();
      next.grant(this.#take(next.bytes));
    }
  }
}

/** A reservation that is given back once, however often it is disposed of. */
function reservation(bytes: number, giveBack: () => void): Reservation {
  let isHeld = true;
  return {
    bytes,
    [Symbol.dispose]: () => {
      if (!isHeld) return;
      isHeld = false;
      giveBack();
    },
  };
}
