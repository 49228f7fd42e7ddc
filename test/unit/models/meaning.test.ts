import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { PARAPHRASES } from "../../../bench/retrieval/paraphrases.ts";
import { createMeaningEmbedder } from "../../../src/models/meaning.ts";
import { splitWindows } from "../../../src/models/encoder/windows.ts";

const embedder = createMeaningEmbedder();
const never = new AbortController().signal;

function similarity(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, number, index) => sum + number * (b[index] as number), 0);
}

async function embed(...texts: string[]): Promise<Float32Array[]> {
  return (await embedder.embed(texts, never)).vectors;
}

test(
  "most questions find the answer in other words first, and nearly all among ten",
  { timeout: 60_000 },
  async () => {
    const questions = await embed(...PARAPHRASES.map(([question]) => question));
    const answers = await embed(...PARAPHRASES.map(([, answer]) => answer));
    const ranks = questions.map((question, index) => {
      const own = similarity(question, answers[index] as Float32Array);
      return answers.filter((answer) => similarity(question, answer) > own).length;
    });
    // 34 of 48, and 45, on the day the weight was chosen; words alone: 0, and 11.
    expect(ranks.filter((rank) => rank === 0).length).toBeGreaterThanOrEqual(32);
    expect(ranks.filter((rank) => rank < 10).length).toBeGreaterThanOrEqual(44);
  },
);

test("vectors have length 1, whatever the text is, and do not depend on the texts beside it", async () => {
  const texts = [
    "A short text.",
    "",
    "  ",
    "!?",
    "文字",
    "x".repeat(2_500),
    "a b ".repeat(600),
    "\uD83D\uDE00".repeat(1_200),
  ];
  const together = await embed(...texts);
  for (const [index, text] of texts.entries()) {
    const [alone] = await embed(text);
    expect(alone).toHaveLength(1536);
    expect(similarity(alone as Float32Array, alone as Float32Array)).toBeCloseTo(1, 5);
    expect(similarity(alone as Float32Array, together[index] as Float32Array)).toBeCloseTo(1, 4);
  }
});

test("what stands at the end of a long text counts", async () => {
  const filler = "The weather in the mountains was cold, and snow fell all night over the village. ".repeat(
    40,
  );
  const [question, ends, other] = await embed(
    "How do I get my money back?",
    `${filler}Refunds are issued if you return the item.`,
    `${filler}Elephants eat bananas in the afternoon.`,
  );
  const gain =
    similarity(question as Float32Array, ends as Float32Array) -
    similarity(question as Float32Array, other as Float32Array);
  expect(gain).toBeGreaterThan(0.001);
});

test("a window is as long as the model reads, and nothing of the text is left out", () => {
  const text = `${"word ".repeat(500)}${"x".repeat(1_000)}  end\n`;
  const windows = splitWindows(text, 126, (word) => word.length).map((window) => window.text);
  expect(windows.join("")).toBe(text);
  for (const window of windows) expect(window.replace(/\s/g, "").length).toBeLessThanOrEqual(126);
});

test("a caller that leaves ends its own work only", async () => {
  const caller = new AbortController();
  const long = embedder.embed(Array(50).fill("some words ".repeat(300)), caller.signal);
  const short = embed("another call");
  const left = expect(long).rejects.toThrow("left");
  caller.abort(new Error("left"));
  await left;
  expect(await short).toHaveLength(1);
});

test("a long call does not hold up a short one", async () => {
  let isDone = false;
  const caller = new AbortController();
  const long = embedder
    .embed(Array(100).fill("some words ".repeat(300)), caller.signal)
    .finally(() => (isDone = true));
  long.catch(() => {});
  await embed("another call");
  expect(isDone).toBe(false);
  caller.abort(new Error("left"));
});

test("when the process is killed, the call fails as UNAVAILABLE, and the next one gets another process", async () => {
  await embed("start");
  const children = execFileSync("ps", ["-o", "pid=,args=", "--ppid", String(process.pid)], {
    encoding: "utf8",
  });
  const [pid] = children
    .split("\n")
    .filter((line) => line.includes("encoder/sentences.ts"))
    .map((line) => Number.parseInt(line, 10));
  const call = embed("some words ".repeat(3_000));
  const failed = expect(call).rejects.toThrow(/unavailable.*sentence encoder/i);
  process.kill(pid as number, "SIGKILL");
  await failed;
  expect(await embed("again")).toHaveLength(1);
});
