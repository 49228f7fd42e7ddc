import { expect, test } from "vitest";
import { EF_LADDER, queriesFor, RecallCurve } from "../../../src/search/recall/curve.ts";

/** The recalls of a query that finds `least` of ten with the least `ef_search`, and all from `from` on. */
const query = (from: number, least = 0.5) => EF_LADDER.map((efSearch) => (efSearch >= from ? 1 : least));

/** A curve of so many equal queries, and others. */
function curveOf(count: number, recalls: readonly number[], others: readonly number[][] = []): RecallCurve {
  const curve = new RecallCurve();
  for (let index = 0; index < count; index++) curve.add(recalls);
  for (const other of others) curve.add(other);
  return curve;
}

test.each([
  [0.5, 20],
  [0.95, 20],
  [0.98, 50],
  [0.99, 100],
  [0.999, 100],
])("a target of %f takes %i queries", (target, queries) => expect(queriesFor(target)).toBe(queries));

test("waits for enough queries, unless the recall is clearly too low and can be raised", () => {
  expect(curveOf(49, query(40)).choose(0.98, 100, false)).toBeUndefined();
  expect(curveOf(50, query(40)).choose(0.98, 100, false)).toMatchObject({ efSearch: 40, queries: 50 });
  expect(curveOf(9, query(200)).choose(0.98, 100, false)).toBeUndefined();
  expect(curveOf(10, query(200)).choose(0.98, 100, false)).toEqual({ efSearch: 200, recall: 1, queries: 10 });
  expect(curveOf(10, query(2_000)).choose(0.98, 100, false)).toBeUndefined();
});

test("chooses what exceeds the target by a standard error", () => {
  const rare = Array.from({ length: 5 }, () => query(400, 0.85));
  // With 100 the mean is 0.985, with a standard error of 0.006.
  expect(curveOf(45, query(100), rare).choose(0.98, 100, false)).toEqual({
    efSearch: 100,
    recall: expect.closeTo(0.985) as number,
    queries: 50,
  });
  expect(curveOf(45, query(100), rare).choose(0.98, 80, true)).toMatchObject({ efSearch: 400, recall: 1 });
});

test("lowers what was tuned only where that saves much", () => {
  const curve = curveOf(50, query(60));
  expect(curve.choose(0.98, 80, true)?.efSearch).toBe(80);
  expect(curve.choose(0.98, 80, false)?.efSearch).toBe(60);
  expect(curve.choose(0.98, 140, true)?.efSearch).toBe(60);
});

test("takes the least that finds about as much as any, where none reaches the target", () => {
  const recalls = EF_LADDER.map((efSearch) => (efSearch < 60 ? 0.8 : efSearch < 1_000 ? 0.9 : 0.903));
  expect(curveOf(50, recalls).choose(0.98, 100, false)).toMatchObject({
    efSearch: 60,
    recall: expect.closeTo(0.9) as number,
  });
});

test("takes values that a query's recalls leave out for 1, and other values for the step below", () => {
  expect(curveOf(50, [0.9, 0.9, 1]).choose(0.98, 25, true)).toEqual({ efSearch: 25, recall: 1, queries: 50 });
});

test("forgets the oldest queries", () => {
  const curve = curveOf(500, query(2_000, 0.1));
  for (let index = 0; index < 100; index++) curve.add(query(10));
  expect(curve.choose(0.999, 100, true)).toEqual({ efSearch: 10, recall: 1, queries: 100 });
});
