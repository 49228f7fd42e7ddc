/** How many positions are kept: ten minutes of one a second, an age beyond which nobody asks for its number. */
const POSITIONS_MAX = 600;

/** Remembers when the primary's log had reached which position, to tell how old a replica's state is. */
export class WalClock {
  /** In order of time, and so of position. */
  readonly #seen: { position: bigint; at: number }[] = [];

  /** Notes that the log had reached `position`, in bytes, at least by the time `at` of `performance.now()`. */
  record(position: bigint, at: number): void {
    // The log of a primary that was replaced may be shorter.
    while ((this.#seen.at(-1)?.position ?? position) > position) this.#seen.pop();
    this.#seen.push({ position, at });
    if (this.#seen.length > POSITIONS_MAX) this.#seen.shift();
  }

  /** Milliseconds since a database that has replayed up to `position` had all there was; undefined when unknown. */
  age(position: bigint, now = performance.now()): number | undefined {
    const newest = this.#seen.findLast((seen) => seen.position <= position);
    return newest === undefined ? undefined : now - newest.at;
  }
}
