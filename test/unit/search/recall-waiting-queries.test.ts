import { expect, test } from "vitest";
import {
  WaitingQueries,
  type SampledQuery,
  type Searches,
} from "../../../src/search/recall/waiting-queries.ts";

const of = (storeId: string, kind: Searches["kind"] = "unfiltered"): Searches => ({ storeId, kind });
const query = (first: number, bytes = 100): SampledQuery => ({
  vector: Buffer.alloc(bytes, first),
  filter: undefined,
});

test("stores, and their searches with and without a filter, take turns", () => {
  const waiting = new WaitingQueries();
  const all = [of("a"), of("a", "filtered"), of("b")];
  for (const searches of [of("a"), of("a"), ...all]) waiting.add(searches, query(1));
  expect(all.map(() => waiting.take()?.searches)).toEqual(all);
  expect([waiting.take()?.searches, waiting.take()?.searches, waiting.take()]).toEqual([
    of("a"),
    of("a"),
    undefined,
  ]);
  expect(waiting.bytes).toBe(0);
});

test("keeps few queries of a store, each seen with the same chance", () => {
  const times = new Map<number, number>();
  for (let round = 0; round < 2_000; round++) {
    const waiting = new WaitingQueries();
    for (let index = 0; index < 10; index++) waiting.add(of("a"), query(index));
    expect(waiting.bytes).toBe(400);
    for (let taken = waiting.take(); taken !== undefined; taken = waiting.take()) {
      const [first = 0] = taken.query.vector;
      times.set(first, (times.get(first) ?? 0) + 1);
    }
  }
  // 800 each are expected, with a standard deviation of 22.
  expect(times.size).toBe(10);
  for (const count of times.values()) expect(Math.abs(count - 800)).toBeLessThan(140);
});

test("keeps no more bytes than it may, and takes more once some were taken or dropped", () => {
  const waiting = new WaitingQueries(250);
  for (const id of ["a", "b", "c"]) waiting.add(of(id), query(1));
  expect(waiting.bytes).toBe(200);
  waiting.drop(of("a"));
  waiting.add(of("c"), query(3));
  expect(waiting.bytes).toBe(200);
  expect([waiting.take()?.searches.storeId, waiting.take()?.searches.storeId]).toEqual(["b", "c"]);
  waiting.drop(of("none"));
  expect(waiting.bytes).toBe(0);
});

test("keeps vectors as they were, and no large filters", () => {
  const waiting = new WaitingQueries();
  const { vector } = query(7);
  waiting.add(of("a", "filtered"), { vector, filter: { type: "eq", key: "a", value: "b" } });
  vector.fill(8);
  waiting.add(of("b", "filtered"), { vector, filter: { type: "eq", key: "a", value: "b".repeat(3_000) } });
  expect(waiting.bytes).toBeGreaterThan(100);
  expect(waiting.take()?.query.vector).toEqual(Buffer.alloc(100, 7));
  expect(waiting.take()).toBeUndefined();
});
