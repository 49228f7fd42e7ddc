import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { createRandom, makeVectors } from "../../../bench/support/random.ts";
import { limits } from "../../../src/limits.ts";
import { encodeVector } from "../../../src/postgres/copy.ts";
import { diversify } from "../../../src/search/results/diversity.ts";

/** The most there is to do: each of the most candidates is a result, of the longest vectors. */
const resultsMax = limits.search_candidates_max;
const candidates = makeVectors(createRandom(1), resultsMax, {
  dimensions: limits.dimensions_max,
  clusters: 1,
}).map((vector, index) => ({ score: 1 - index / 1_000, vector: encodeVector(Float32Array.from(vector)) }));

test("the event loop turns meanwhile, often", async () => {
  let turns = 0;
  let isDone = false;
  const done = diversify(candidates, { diversity: 0.5, resultsMax }, new AbortController().signal).then(
    (chosen) => {
      isDone = true;
      return chosen;
    },
  );
  while (!isDone) {
    await setImmediate();
    turns++;
  }
  expect(new Set(await done).size).toBe(resultsMax);
  expect(turns).toBeGreaterThan(50);
});

test("ends when the caller is gone", async () => {
  const caller = new AbortController();
  const done = diversify(candidates, { diversity: 0.5, resultsMax }, caller.signal);
  await setImmediate();
  caller.abort(new Error("gone"));
  await expect(done).rejects.toThrow("gone");
});
