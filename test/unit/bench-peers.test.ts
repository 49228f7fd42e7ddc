import { expect, test } from "vitest";
import { findBehind } from "../../bench/peers/summary.ts";
import { chooseEf, findNearest } from "../../bench/peers/recall.ts";
import { makeRow } from "../../bench/peers/peer.ts";
import { createPoints } from "../../bench/support/points.ts";

test("The table of the peers names every row in which pgquiver is behind", () => {
  const line = (name: string, better: "more" | "less", values: Record<string, number>) => ({
    name,
    better,
    values: new Map(Object.entries(values)),
    digits: 0,
  });
  const lines = [
    line("ahead", "more", { ours: 10, declared: 30, one: 20, floor: 40 }),
    line("behind", "more", { ours: 10, one: 5, two: 20 }),
    line("faster", "less", { ours: 10, one: 20, two: 11 }),
    line("slower", "less", { ours: 10, one: 5 }),
    line("alone", "less", { ours: 10, floor: 5 }),
  ];
  const contenders = { ours: "ours", declared: "declared", peers: ["one", "two"], floors: ["floor"] };
  expect(findBehind(lines, contenders)).toEqual([
    { name: "behind", ratio: 0.5 },
    { name: "slower", ratio: 0.5 },
  ]);
});

test("The nearest rows are those with the largest cosine, in order", () => {
  const points = createPoints({ dimensions: 16, clusters: 3, seed: 1 });
  const rows = Array.from({ length: 50 }, (_, number) => makeRow(points, number));
  const query = points.at(1_000);
  const cosine = (vector: Float32Array) =>
    vector.reduce((sum, value, axis) => sum + value * (query[axis] as number), 0);
  const expected = rows.toSorted((a, b) => cosine(b.vector) - cosine(a.vector)).map(({ id }) => id);
  expect(findNearest(rows, query)).toEqual(expected.slice(0, 10));
  expect(findNearest(rows.slice(0, 3), query)).toHaveLength(3);
});

test("The candidate list is the smallest that reaches the recall", async () => {
  const truth = [
    ["a", "b"],
    ["c", "d"],
  ];
  let size = 0;
  const tried: number[] = [];
  const contender = {
    async setEf(ef: number) {
      tried.push((size = ef));
    },
    search: async (index: number) => (size < 48 ? ["a", "c"] : (truth[index] as string[])),
  };
  expect(await chooseEf(contender, truth, 24)).toEqual({ ef: 48, recall: 1 });
  expect(tried).toEqual([24, 32, 48]);
});
