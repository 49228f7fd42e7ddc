/** Seconds over which a pace is measured. */
const WINDOW_MS = 10_000;

/** Measures how fast something grows, by looks at it. */
export class Pace {
  #looks: { at: number; count: number }[] = [];
  #subject = "";

  /** Growth a second over the last ten seconds; undefined at the first look. Another `subject` begins again. */
  look(count: number, subject = ""): number | undefined {
    const at = performance.now();
    if (subject !== this.#subject || count < (this.#looks.at(-1)?.count ?? 0)) this.#looks = [];
    this.#subject = subject;
    this.#looks.push({ at, count });
    while (this.#looks.length > 2 && at - (this.#looks[0]?.at ?? at) > WINDOW_MS) this.#looks.shift();
    const [first] = this.#looks;
    if (first === undefined || first.at === at) return undefined;
    return Math.round(((count - first.count) / (at - first.at)) * 1e5) / 100;
  }
}

/** Seconds until `left` are done; undefined where the pace is not known, or nothing moves. */
export function secondsLeft(left: number, perSecond: number | undefined): number | undefined {
  if (perSecond === undefined || perSecond <= 0) return undefined;
  return Math.round((Math.max(0, left) / perSecond) * 10) / 10;
}
