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
 * not by hope. Reservations are granted in the order they were asked for, and given back by
 * disposing of them.
 */
export class ByteBudget {
  readonly #bytesMax: number;
  #used = 0;
  readonly #waiting: Waiter[] = [];

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes reserved now. */
  get used(): number {
    return this.#used;
  }

  /** Reserves if that is possible at once and nobody waits. */
  tryReserve(bytes: number): Reservation | undefined {
    return this.#waiting.length === 0 && this.#fits(bytes) ? this.#take(bytes) : undefined;
  }

  /** Reserves, waiting until others have given back enough. */
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

  /** A single request larger than the whole budget is granted when it is alone. */
  #fits(bytes: number): boolean {
    return this.#used === 0 || this.#used + bytes <= this.#bytesMax;
  }

  #take(bytes: number): Reservation {
    this.#used += bytes;
    let isHeld = true;
    return {
      bytes,
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        this.#used -= bytes;
        this.#grantNext();
      },
    };
  }

  #grantNext(): void {
    for (let next = this.#waiting[0]; next !== undefined && this.#fits(next.bytes); next = this.#waiting[0]) {
      this.#waiting.shift();
      next.grant(this.#take(next.bytes));
    }
  }
}
