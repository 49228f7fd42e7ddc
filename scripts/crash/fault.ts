import type pg from "pg";
import type { Progress } from "./client.ts";
import type { Random } from "./random.ts";

/** When a fault strikes, counted from the start of the trial or the end of the previous fault. */
export type Moment =
  | { after: "time"; ms: number }
  | { after: "sent"; count: number; delayMs: number }
  | { after: "acknowledged"; count: number; delayMs: number }
  /** As soon as pg_stat_activity shows a COMMIT in progress. */
  | { after: "commit" };

/** Draws a moment. `canSeeCommits`: whether pg_stat_activity can be polled for a COMMIT. */
export function drawMoment(random: Random, canSeeCommits: boolean): Moment {
  const delayMs = random.pick([0, 0, random.integer(0, 20)]);
  const moments: Moment[] = [
    { after: "time", ms: random.integer(0, 150) },
    { after: "sent", count: random.integer(1, 60), delayMs },
    { after: "acknowledged", count: random.integer(1, 12), delayMs },
  ];
  return canSeeCommits && random.chance(0.4) ? { after: "commit" } : random.pick(moments);
}

/** Interval at which pg_stat_activity is polled for a COMMIT. */
const WATCH_MS = 2;

/** Triggers faults at the given moments, one after the other, driven by the clients' progress. */
export class Faults implements Progress {
  readonly #moments: Moment[];
  readonly #strike: () => Promise<void>;
  readonly #watcher: pg.Pool | undefined;
  #count = 0;
  #running: Promise<void> = Promise.resolve();
  #isOver = false;
  /** Number of faults so far. */
  struck = 0;

  constructor(moments: readonly Moment[], strike: () => Promise<void>, watcher: pg.Pool | undefined) {
    this.#moments = [...moments];
    this.#strike = strike;
    this.#watcher = watcher;
    this.#arm();
  }

  sent(): void {
    this.#report("sent");
  }

  acknowledged(): void {
    this.#report("acknowledged");
  }

  /**
   * Prevents further faults, and waits for the one in progress. Rejects when a fault could not be carried
   * out.
   */
  async end(): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }

  #arm(): void {
    this.#count = 0;
    const [moment] = this.#moments;
    if (moment?.after === "time") this.#strikeAfter(moment, moment.ms);
    if (moment?.after === "commit") void this.#watch(moment);
  }

  #report(event: "sent" | "acknowledged"): void {
    const [moment] = this.#moments;
    if (moment?.after === event && ++this.#count === moment.count) this.#strikeAfter(moment, moment.delayMs);
  }

  async #watch(moment: Moment): Promise<void> {
    while (!this.#isOver) {
      const seen = await this.#watcher
        ?.query(
          "select 1 from pg_stat_activity where datname = current_database() and state = 'active' and query = 'commit'",
        )
        .catch(() => undefined);
      if ((seen?.rowCount ?? 0) > 0) return this.#strikeAfter(moment, 0);
      await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
    }
  }

  #strikeAfter(moment: Moment, delayMs: number): void {
    setTimeout(() => {
      if (this.#isOver || this.#moments[0] !== moment) return;
      this.struck++;
      this.#running = this.#strike().then(() => {
        this.#moments.shift();
        this.#arm();
      });
      // Prevents an unhandled rejection; `end` awaits the promise, and a failure then fails the trial.
      this.#running.catch(() => {});
    }, delayMs);
  }
}
