import { expect, test } from "vitest";
import { ConnectionShares } from "../../../src/api/rates/connection-shares.ts";
import type { Limited } from "../../../src/api/rates/limits.ts";
import { withWaitBudget } from "../../../src/postgres/connection/wait-budget.ts";
import {
  inPlace,
  inProject,
  takePlace,
  withoutCaller,
  type ConnectionPlaces,
} from "../../../src/postgres/row-security/call.ts";

const refuse = ({ holder }: Limited) => new Error(`${holder} is full`);
const project = (limit: number): Limited => ({ holder: "project:a", limit });
const key = (limit: number): Limited => ({ holder: "key:k", limit });
const placesIn = (shares: ConnectionShares): ConnectionPlaces => ({
  owner: "",
  take: (pool, call, signal) => shares.take(pool, [project(1)], { caller: "c", call, signal }),
  hasSpare: (pool) => shares.hasSpare(pool, [project(1)]),
});
const waiter = (signal?: AbortSignal) => ({ caller: "c", call: {}, signal });

test.each([
  [10, 100, 10],
  [10, 25, 2],
  [10, 1, 1],
  [1, 50, 1],
])("of a pool of %i, %i percent are %i connections", async (max, limit, places) => {
  const shares = new ConnectionShares(refuse);
  const pool = { max };
  for (let place = 0; place < places; place++) await shares.take(pool, [project(limit)], waiter());
  const noTime = withWaitBudget(0, () => shares.take(pool, [project(limit)], waiter()));
  await expect(noTime).rejects.toThrow("project:a is full");
});

test("a place of a key waits for one of the project, and leaves no trace when it gets none", async () => {
  const shares = new ConnectionShares(refuse);
  const pool = { max: 4 };
  const holders = [key(25), project(50)];
  const own = await shares.take(pool, holders, waiter());
  const second = () => withWaitBudget(0, () => shares.take(pool, holders, waiter()));
  await expect(second()).rejects.toThrow("key:k is full");
  const others = await shares.take(pool, [project(50)], waiter());
  own[Symbol.dispose]();
  const last = await shares.take(pool, [project(50)], waiter());
  await expect(second()).rejects.toThrow("project:a is full");
  last[Symbol.dispose]();
  // The key's place was not lost with the project's refusal.
  (await second())[Symbol.dispose]();
  others[Symbol.dispose]();
});

test("a caller who leaves waits no longer, and one who has left before still gets a place", async () => {
  const shares = new ConnectionShares(refuse);
  const pool = { max: 1 };
  const held = await shares.take(pool, [project(1)], waiter());
  const leaving = new AbortController();
  const waiting = shares.take(pool, [project(1)], waiter(leaving.signal));
  leaving.abort(new Error("left"));
  await expect(waiting).rejects.toThrow("left");
  const cleaning = shares.take(pool, [project(1)], waiter(leaving.signal));
  held[Symbol.dispose]();
  (await cleaning)[Symbol.dispose]();
});

test("a second connection is spare while each holder has more than one place and a free one", async () => {
  const shares = new ConnectionShares(refuse);
  const pool = { max: 4 };
  expect(shares.hasSpare(pool, [])).toBe(true);
  // Between two connections of a call its only place is free, and is not spare.
  expect(shares.hasSpare(pool, [project(25)])).toBe(false);
  expect(shares.hasSpare(pool, [key(25), project(50)])).toBe(false);
  const first = await shares.take(pool, [project(50)], waiter());
  expect(shares.hasSpare(pool, [project(50)])).toBe(true);
  const second = await shares.take(pool, [project(50)], waiter());
  expect(shares.hasSpare(pool, [project(50)])).toBe(false);
  second[Symbol.dispose]();
  expect(shares.hasSpare(pool, [project(50)])).toBe(true);
  first[Symbol.dispose]();
});

test("what calls share waits on when the caller who began it leaves", async () => {
  const shares = new ConnectionShares(refuse);
  const pool = { max: 1 };
  const places = placesIn(shares);
  const held = await shares.take(pool, [project(1)], waiter());
  const leaving = new AbortController();
  const { own, shared } = inProject(
    "a",
    () => ({ own: takePlace(pool), shared: withoutCaller(() => takePlace(pool)) }),
    { places, signal: leaving.signal },
  );
  leaving.abort(new Error("left"));
  await expect(own).rejects.toThrow("left");
  held[Symbol.dispose]();
  (await shared)?.[Symbol.dispose]();
});

test("work in a place needs no other one in its pool, and needs one in other pools", async () => {
  const shares = new ConnectionShares(refuse);
  const [pool, replica] = [{ max: 1 }, { max: 1 }];
  const { signal } = new AbortController();
  const work = async () => {
    expect(takePlace(pool)).toBeUndefined();
    expect(await inPlace(pool, signal, async () => "nested")).toBe("nested");
    const other = takePlace(replica);
    expect(other).toBeDefined();
    (await other)?.[Symbol.dispose]();
  };
  await inProject("a", () => inPlace(pool, signal, work), { places: placesIn(shares) });
  // The place came back with the end of the work.
  (await shares.take(pool, [project(1)], waiter()))[Symbol.dispose]();
});
