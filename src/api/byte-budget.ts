import { rateLimited } from "../errors.ts";

/** Reserved bytes of a budget; disposing of the reservation returns them. */
export interface Reservation extends Disposable {
  readonly bytes: number;
}

interface Waiter {
  bytes: number;
  grant: (reservation: Reservation) => void;
}

/**
 * A memory budget for concurrent streams: a weighted semaphore that counts bytes. It prevents the process
 * from running out of memory when many clients send faster than the database writes. Each stream reserves a
 * fixed number of bytes while it is open, all streams together at most half of the budget; rows reserve more
 * until they are written. Reservations for rows are granted in FIFO order. `shareOf` gives the part of one caller.
 */
export class ByteBudget {
  readonly #bytesMax: number;
  #streams = 0;
  #rows = 0;
  readonly #waiting: Waiter[] = [];
  readonly #whole: ByteBudget | undefined;
  readonly #shares = new Map<string, ByteBudget>();

  /** `whole`: the budget that this one is a share of, from which every reservation is taken too. */
  constructor(bytesMax: number, whole?: ByteBudget) {
    this.#bytesMax = bytesMax;
    this.#whole = whole;
  }

  /**
   * The share of one caller, half of the budget, so that one caller leaves memory to the others. "" is a caller that
   * is not known, and gets the whole. A share is kept for ever: callers have keys, whose number is bounded.
   */
  shareOf(caller: string): ByteBudget {
    return caller === "" ? this : this.part(caller, 1 / 2);
  }

  /** The part of this budget that a holder of this name has: always the same one. */
  part(holder: string, share: number): ByteBudget {
    const part = this.#shares.get(holder) ?? new ByteBudget(this.#bytesMax * share, this);
    this.#shares.set(holder, part);
    return part;
  }

  /** Bytes reserved now. */
  get used(): number {
    return this.#streams + this.#rows;
  }

  /**
   * Reserves bytes for a stream. Undefined when all streams would have more than half of the budget, or when
   * rows fill the budget; the only open stream is always granted.
   */
  tryOpen(bytes: number): Reservation | undefined {
    const isAmple = this.#streams + bytes <= this.#bytesMax / 2 && this.used + bytes <= this.#bytesMax;
    if (this.#streams > 0 && !isAmple) return undefined;
    const ofWhole = this.#whole?.tryOpen(bytes);
    if (this.#whole !== undefined && ofWhole === undefined) return undefined;
    this.#streams += bytes;
    return reservation(bytes, () => {
      this.#streams -= bytes;
      this.#grantNext();
      ofWhole?.[Symbol.dispose]();
    });
  }

  /**
   * Reserves bytes for rows without waiting; undefined when the budget is exhausted or others wait already.
   */
  tryReserve(bytes: number): Reservation | undefined {
    if (this.#waiting.length > 0 || !this.#fits(bytes)) return undefined;
    if (this.#whole === undefined) return this.#take(bytes);
    const ofWhole = this.#whole.tryReserve(bytes);
    return ofWhole === undefined ? undefined : both(this.#take(bytes), ofWhole);
  }

  /**
   * Reserves bytes for rows, waiting for others to return theirs. Throws the signal's reason when it aborts.
   */
  async reserve(bytes: number, signal: AbortSignal): Promise<Reservation> {
    const granted = this.tryReserve(bytes);
    if (granted !== undefined) return granted;
    signal.throwIfAborted();
    const own = await this.#reserveOwn(bytes, signal);
    if (this.#whole === undefined) return own;
    try {
      return both(own, await this.#whole.reserve(bytes, signal));
    } catch (error) {
      own[Symbol.dispose]();
      throw error;
    }
  }

  /** Like `reserve`, but throws RATE_LIMIT_EXCEEDED with `message` after `waitMs`. */
  async reserveWithin(
    bytes: number,
    waitMs: number,
    message: string,
    signal: AbortSignal,
  ): Promise<Reservation> {
    // Fast path without a timer: nearly every reservation is granted at once.
    const granted = this.tryReserve(bytes);
    if (granted !== undefined) return granted;
    const patience = AbortSignal.timeout(waitMs);
    try {
      return await this.reserve(bytes, AbortSignal.any([signal, patience]));
    } catch (error) {
      throw patience.aborted ? rateLimited(message, 1000) : error;
    }
  }

  async #reserveOwn(bytes: number, signal: AbortSignal): Promise<Reservation> {
    if (this.#waiting.length === 0 && this.#fits(bytes)) return this.#take(bytes);
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

  /**
   * While no rows are reserved, any number of bytes fits: more than the whole budget would otherwise wait
   * forever.
   */
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

/** A reservation of a share and of the whole. */
function both(own: Reservation, ofWhole: Reservation): Reservation {
  return reservation(own.bytes, () => {
    own[Symbol.dispose]();
    ofWhole[Symbol.dispose]();
  });
}

/** Makes a reservation whose disposal is idempotent. */
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
