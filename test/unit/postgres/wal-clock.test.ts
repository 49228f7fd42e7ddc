import { expect, test } from "vitest";
import { WalClock } from "../../../src/postgres/replicas/wal-clock.ts";

test("a replica is as old as the newest position it has reached", () => {
  const clock = new WalClock();
  clock.record(100n, 1_000);
  clock.record(200n, 2_000);
  clock.record(300n, 3_000);
  expect(clock.age(300n, 3_500)).toBe(500);
  expect(clock.age(299n, 3_500)).toBe(1_500);
  expect(clock.age(1_000n, 3_500)).toBe(500);
});

test("a primary at rest makes nobody older", () => {
  const clock = new WalClock();
  clock.record(100n, 1_000);
  clock.record(100n, 9_000);
  expect(clock.age(100n, 9_001)).toBe(1);
});

test("nothing is known of a replica that is behind all positions seen", () => {
  const clock = new WalClock();
  expect(clock.age(100n, 1)).toBeUndefined();
  clock.record(100n, 1);
  expect(clock.age(99n, 2)).toBeUndefined();
});

test("a log that begins anew, as after a failover, is believed", () => {
  const clock = new WalClock();
  clock.record(500n, 1_000);
  clock.record(600n, 2_000);
  clock.record(550n, 3_000);
  expect(clock.age(550n, 3_001)).toBe(1);
  clock.record(100n, 4_000);
  expect(clock.age(99n, 4_001)).toBeUndefined();
});

test("positions of long ago are forgotten", () => {
  const clock = new WalClock();
  for (let second = 0; second < 1_000; second++) clock.record(BigInt(second), second * 1_000);
  expect(clock.age(998n, 999_000)).toBe(1_000);
  expect(clock.age(100n, 999_000)).toBeUndefined();
});
