import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ByteBudget, type Reservation } from "../../../src/api/byte-budget.ts";
import { never } from "../../support/servers/embedder.ts";

/** Whether a promise is settled by now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol("pending");
  await new Promise(setImmediate);
  return (await Promise.race([promise.catch(() => {}), Promise.resolve(pending)])) !== pending;
}

function give(reservation: Reservation | undefined): void {
  reservation?.[Symbol.dispose]();
}

test("gives out what there is, and takes it back once", () => {
  const budget = new ByteBudget(100);
  const first = budget.tryReserve(60);
  expect(budget.used).toBe(60);
  expect(budget.tryReserve(41)).toBeUndefined();
  expect(budget.tryReserve(40)?.bytes).toBe(40);
  give(first);
  give(first);
  expect(budget.used).toBe(40);
});

test("makes those who want more wait, and lets them in by their order", async () => {
  const budget = new ByteBudget(100);
  const first = budget.tryReserve(90);
  const large = budget.reserve(50, never);
  const small = budget.reserve(5, never);
  expect(await isSettled(large)).toBe(false);
  expect(await isSettled(small)).toBe(false);
  expect(budget.tryReserve(1)).toBeUndefined();
  give(first);
  expect([(await large).bytes, (await small).bytes, budget.used]).toEqual([50, 5, 55]);
});

test("grants more than the whole when no other rows are held", async () => {
  const budget = new ByteBudget(100);
  const stream = budget.tryOpen(10);
  const huge = budget.tryReserve(1_000);
  expect(budget.used).toBe(1_010);
  const next = budget.reserve(1_000, never);
  expect(await isSettled(next)).toBe(false);
  give(huge);
  give(await next);
  give(stream);
  expect(budget.used).toBe(0);
});

test("leaves half of it to rows, however many streams want to open", async () => {
  const budget = new ByteBudget(100);
  const streams = [budget.tryOpen(25), budget.tryOpen(25)];
  expect(budget.tryOpen(1)).toBeUndefined();
  const rows = budget.tryReserve(50);
  expect(rows?.bytes).toBe(50);
  give(streams[0]);
  expect(budget.tryOpen(25)?.bytes).toBe(25);
  expect(budget.used).toBe(100);
});

test("opens no stream when rows fill the memory, but the only one always", () => {
  const budget = new ByteBudget(100);
  const only = budget.tryOpen(1_000);
  expect(only?.bytes).toBe(1_000);
  give(only);
  budget.tryOpen(10);
  budget.tryReserve(85);
  expect(budget.tryOpen(10)).toBeUndefined();
});

test("a stream that closes lets waiting rows in", async () => {
  const budget = new ByteBudget(100);
  const stream = budget.tryOpen(40);
  const rows = budget.tryReserve(30);
  const waiting = budget.reserve(60, never);
  expect(await isSettled(waiting)).toBe(false);
  give(stream);
  expect((await waiting).bytes).toBe(60);
  give(rows);
  expect(budget.used).toBe(60);
});

test("who gives up while waiting loses the place, and lets the next in", async () => {
  const budget = new ByteBudget(100);
  const first = budget.tryReserve(60);
  const abort = new AbortController();
  const reason = new Error("given up");
  const large = budget.reserve(100, abort.signal);
  const small = budget.reserve(40, never);
  expect(await isSettled(small)).toBe(false);
  abort.abort(reason);
  await expect(large).rejects.toBe(reason);
  give(await small);
  give(first);
  expect(budget.used).toBe(0);
});

test("who has given up before waiting is told at once", async () => {
  const budget = new ByteBudget(100);
  const held = budget.tryReserve(100);
  const reason = new Error("given up");
  await expect(budget.reserve(1, AbortSignal.abort(reason))).rejects.toBe(reason);
  give(held);
  expect(budget.used).toBe(0);
  expect(budget.tryReserve(100)?.bytes).toBe(100);
});

test("whatever is asked for, everybody is served in the end and nothing stays reserved", async () => {
  const requests = fc.array(fc.record({ bytes: fc.nat(150), isGivenUp: fc.boolean() }), { maxLength: 30 });
  await fc.assert(
    fc.asyncProperty(requests, async (asked) => {
      const budget = new ByteBudget(100);
      await Promise.all(
        asked.map(async ({ bytes, isGivenUp }, index) => {
          const abort = new AbortController();
          if (isGivenUp) setImmediate(() => abort.abort(new Error("given up")));
          const stream = index % 5 === 0 ? budget.tryOpen(20) : undefined;
          const granted = await budget.reserve(bytes, abort.signal).catch(() => undefined);
          await new Promise(setImmediate);
          give(granted);
          give(stream);
        }),
      );
      expect(budget.used).toBe(0);
    }),
    { numRuns: 50 },
  );
});

describe("one caller's share", () => {
  test("is half of the rows, and of the streams", () => {
    const budget = new ByteBudget(100);
    const share = budget.shareOf("a");
    const rows = share.tryReserve(50);
    expect(rows?.bytes).toBe(50);
    expect(share.tryReserve(1)).toBeUndefined();
    expect(budget.shareOf("a").tryReserve(1)).toBeUndefined();
    expect(budget.shareOf("b").tryReserve(40)?.bytes).toBe(40);
    expect(budget.used).toBe(90);
    rows?.[Symbol.dispose]();
    expect(budget.used).toBe(40);
    expect(share.tryOpen(20)?.bytes).toBe(20);
    expect(share.tryOpen(20)).toBeUndefined();
    expect(budget.shareOf("b").tryOpen(20)?.bytes).toBe(20);
  });

  test("waits for its own first, then for the whole, and gives both back", async () => {
    const budget = new ByteBudget(100);
    const share = budget.shareOf("a");
    const own = share.tryReserve(50) as Reservation;
    const others = budget.tryReserve(50) as Reservation;
    const waiting = share.reserve(30, never);
    own[Symbol.dispose]();
    const granted = await waiting;
    expect(budget.used).toBe(80);
    const second = share.reserve(20, never);
    const third = share.reserve(1, AbortSignal.abort(new Error("gone")));
    await expect(third).rejects.toThrow("gone");
    for (const held of [granted, others, await second]) held[Symbol.dispose]();
    expect(budget.used).toBe(0);
  });

  test("is given back when the whole is waited for in vain", async () => {
    const budget = new ByteBudget(100);
    const others = budget.tryReserve(100) as Reservation;
    const share = budget.shareOf("a");
    await expect(share.reserveWithin(50, 1, "no memory", never)).rejects.toThrow("no memory");
    others[Symbol.dispose]();
    expect(share.tryReserve(50)?.bytes).toBe(50);
  });
});

test("a part is bounded by its share, and takes from the whole", () => {
  const whole = new ByteBudget(100);
  const part = whole.part("project:a", 0.2);
  expect(whole.part("project:a", 0.2)).toBe(part);
  const held = part.tryReserve(15);
  expect(part.tryReserve(10)).toBeUndefined();
  expect(whole.used).toBe(15);
  expect(whole.tryReserve(80)).toBeDefined();
  held?.[Symbol.dispose]();
  expect(part.tryReserve(10)).toBeDefined();
});
