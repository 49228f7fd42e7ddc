/** Length of the history: ten minutes at one position a second. A replica further behind has unknown lag. */
const POSITIONS_MAX = 600;

/** A history of the primary's WAL positions with the time each was read, to measure replication lag. */
export class WalClock {
  /** Ascending in time and position. */
  readonly #seen: { position: bigint; at: number }[] = [];

  /**
   * Records that the WAL had reached `position` (bytes) by the time `at`, in milliseconds of
   * `performance.now()`.
   */
  record(position: bigint, at: number): void {
    // After a fail-over the new primary's WAL may end earlier: drop positions that it has not reached.
    while ((this.#seen.at(-1)?.position ?? position) > position) this.#seen.pop();
    this.#seen.push({ position, at });
    if (this.#seen.length > POSITIONS_MAX) this.#seen.shift();
  }

  /**
   * Upper bound, in milliseconds, of the lag of a replica that has replayed the WAL up to `position`.
   * Undefined when the position is older than the history.
   */
  age(position: bigint, now = performance.now()): number | undefined {
    const newest = this.#seen.findLast((seen) => seen.position <= position);
    return newest === undefined ? undefined : now - newest.at;
  }
}
