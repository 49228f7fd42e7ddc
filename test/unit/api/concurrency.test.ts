import { expect, test } from "vitest";
import { mapConcurrently, Semaphore } from "../../../src/api/concurrency/semaphore.ts";

const never = new AbortController().signal;

test("gives results in the order of the items, and never works on too many", async () => {
  let running = 0;
  let runningMax = 0;
  const work = async (item: number) => {
    runningMax = Math.max(runningMax, ++running);
    for (let turn = 0; turn < 10 - item; turn++) await Promise.resolve();
    running--;
    return item * 2;
  };
  const items = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  expect(await mapConcurrently(items, 3, work, never)).toEqual(items.map((item) => item * 2));
  expect(runningMax).toBe(3);
  expect(await mapConcurrently([], 3, work, never)).toEqual([]);
});

test("stops at the first failure, which it passes on", async () => {
  const begun: number[] = [];
  const stopped: number[] = [];
  const work = async (item: number, signal: AbortSignal) => {
    begun.push(item);
    if (item === 1) throw new Error("one");
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    stopped.push(item);
  };
  await expect(mapConcurrently([0, 1, 2, 3], 2, work, never)).rejects.toThrow("one");
  await Promise.resolve();
  expect(begun).toEqual([0, 1]);
  expect(stopped).toEqual([0]);
});

test.each([[["only"]], [["first", "second"]]])(
  "an abort by the caller reaches the work on %j",
  async (items) => {
    const controller = new AbortController();
    const work = (_: string, signal: AbortSignal) =>
      new Promise<void>((_resolve, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason as Error)),
      );
    const result = mapConcurrently(items, 2, work, controller.signal);
    controller.abort(new Error("enough"));
    await expect(result).rejects.toThrow("enough");
  },
);

test("a semaphore hands permits on in the order they were asked for, past those who gave up", async () => {
  const semaphore = new Semaphore(1);
  const first = await semaphore.acquire(never);
  const gaveUp = new AbortController();
  const order: string[] = [];
  const second = semaphore.acquire(gaveUp.signal);
  const third = semaphore.acquire(never).then((permit) => {
    order.push("third");
    return permit;
  });
  const fourth = semaphore.acquire(never).then(() => order.push("fourth"));
  gaveUp.abort(new Error("enough"));
  await expect(second).rejects.toThrow("enough");
  first[Symbol.dispose]();
  (await third)[Symbol.dispose]();
  await fourth;
  expect(order).toEqual(["third", "fourth"]);
  const fifth = semaphore.acquire(never);
  semaphore.rejectWaiting(new Error("closed"));
  await expect(fifth).rejects.toThrow("closed");
});
