import { rateLimited } from "../../errors.ts";

/**
 * A bound to what is open at the same time, of which one holder, such as a caller or an address, may have no more
 * than a share: so one client leaves slots to the others. Nobody waits for a slot.
 */
export class Slots {
  readonly #max: number;
  readonly #perHolderMax: number;
  readonly #held = new Map<string, number>();
  #taken = 0;

  /** `perHolderMax`: default half of all, rounded up. */
  constructor(max: number, perHolderMax = Math.max(1, Math.ceil(max / 2))) {
    this.#max = max;
    this.#perHolderMax = perHolderMax;
  }

  /**
   * Takes a slot, which counts for each of the holders; disposing of the result returns the slot. Undefined when all
   * are taken, or one of the holders has its share. "" is a holder that is not known, and has no share of its own.
   */
  tryTake(...holders: readonly string[]): Disposable | undefined {
    const known = holders.filter((holder) => holder !== "");
    if (this.#taken >= this.#max || known.some((holder) => this.#heldBy(holder) >= this.#perHolderMax))
      return undefined;
    this.#taken++;
    for (const holder of known) this.#held.set(holder, this.#heldBy(holder) + 1);
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) this.#return(known);
        isHeld = false;
      },
    };
  }

  /** Like `tryTake`, but throws RATE_LIMIT_EXCEEDED with `message`. */
  take(message: string, ...holders: readonly string[]): Disposable {
    const slot = this.tryTake(...holders);
    if (slot === undefined) throw rateLimited(message, 1000);
    return slot;
  }

  #heldBy(holder: string): number {
    return this.#held.get(holder) ?? 0;
  }

  #return(holders: readonly string[]): void {
    this.#taken--;
    for (const holder of holders) {
      const left = this.#heldBy(holder) - 1;
      if (left > 0) this.#held.set(holder, left);
      else this.#held.delete(holder);
    }
  }
}
