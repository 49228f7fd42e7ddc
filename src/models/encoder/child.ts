import type { Answer, Request, Sum } from "./messages.ts";
import { add } from "./vectors.ts";
import { splitWindows, type Window } from "./windows.ts";

/** Windows of one run of a model: eight together take two thirds of the CPU time that they take one by one. */
const WINDOWS_MAX = 16;

/** How much longer than another a window of the same run may be. */
const FILL_MAX = 2;

/** A model, in the process that runs it. */
export interface Model {
  /** Numbers of a vector. */
  readonly dimensions: number;
  /** Tokens that the model reads of a window. */
  readonly windowTokensMax: number;
  readonly countTokens: (word: string) => number;
  /** Encodes windows: a vector of length 1 each. */
  readonly encode: (windows: readonly string[]) => Promise<readonly ArrayLike<number>[]>;
}

/** Answers the requests of the process that started this one, and ends with it. */
export function answerRequests(model: Model): void {
  const send = (answer: Answer) => void process.send?.(answer);
  process.on("message", ({ texts }: Request) => {
    encode(model, texts).then(
      (sums) => send({ sums }),
      (error: unknown) => send({ error: String(error) }),
    );
  });
  process.once("disconnect", () => process.exit());
  // The process is ready.
  send({ sums: [] });
}

async function encode(model: Model, texts: readonly string[]): Promise<Sum[]> {
  const sums = texts.map(() => new Float32Array(model.dimensions));
  const windows = texts.flatMap((text, index) =>
    splitWindows(text, model.windowTokensMax, model.countTokens).map((window) => ({
      ...window,
      sum: sums[index] as Sum,
    })),
  );
  for (const run of group(windows)) {
    const vectors = await model.encode(run.map(({ text }) => text));
    for (const [index, { sum }] of run.entries()) add(sum, vectors[index] as ArrayLike<number>);
  }
  return sums;
}

/**
 * Groups windows to runs, the longest first. The model fills up the windows of a run to the length of the longest, and
 * computes what it fills in too: so a window that is much shorter gets into another run.
 */
function* group<T extends Window>(windows: readonly T[]): Generator<T[]> {
  let run: T[] = [];
  for (const window of windows.toSorted((a, b) => b.tokens - a.tokens)) {
    const longest = run[0]?.tokens ?? 0;
    if (run.length === WINDOWS_MAX || window.tokens * FILL_MAX < longest) {
      yield run;
      run = [];
    }
    run.push(window);
  }
  if (run.length > 0) yield run;
}
