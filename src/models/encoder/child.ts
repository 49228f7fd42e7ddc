import type { Answer, Request, Sum } from "./messages.ts";
import { add } from "./vectors.ts";
import { splitWindows } from "./windows.ts";

/** Windows of one run of a model: eight together take two thirds of the CPU time that they take one by one. */
const WINDOWS_MAX = 16;

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
      window,
      sum: sums[index] as Sum,
    })),
  );
  for (let start = 0; start < windows.length; start += WINDOWS_MAX) {
    const some = windows.slice(start, start + WINDOWS_MAX);
    const vectors = await model.encode(some.map(({ window }) => window));
    for (const [index, { sum }] of some.entries()) add(sum, vectors[index] as ArrayLike<number>);
  }
  return sums;
}
