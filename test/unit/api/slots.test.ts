import { expect, test } from "vitest";
import { Slots } from "../../../src/api/concurrency/slots.ts";

test("one holder has no more than half of the slots, and a slot that is returned can be taken again", () => {
  const slots = new Slots(4);
  const first = slots.tryTake("a");
  expect(slots.tryTake("a")).toBeDefined();
  expect(slots.tryTake("a")).toBeUndefined();
  const other = slots.tryTake("b");
  expect(other).toBeDefined();
  first?.[Symbol.dispose]();
  first?.[Symbol.dispose]();
  expect(slots.tryTake("a")).toBeDefined();
  expect(slots.tryTake("a")).toBeUndefined();
  expect(() => slots.take("full", "a")).toThrow("full");
});

test("all holders together have no more than all", () => {
  const slots = new Slots(2);
  expect(slots.tryTake("a")).toBeDefined();
  expect(slots.tryTake("b")).toBeDefined();
  expect(slots.tryTake("c")).toBeUndefined();
});

test("a slot counts for each of its holders, and nobody knows ''", () => {
  const slots = new Slots(8, 1);
  expect(slots.tryTake("address", "")).toBeDefined();
  expect(slots.tryTake("address", "a")).toBeUndefined();
  expect(slots.tryTake("other", "a")).toBeDefined();
  expect(slots.tryTake("third", "a")).toBeUndefined();
  expect(slots.tryTake("", "")).toBeDefined();
  expect(slots.tryTake("", "")).toBeDefined();
});
