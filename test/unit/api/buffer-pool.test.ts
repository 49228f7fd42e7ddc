import { expect, test } from "vitest";
import { giveBackBuffer, takeBuffer } from "../../../src/api/buffer-pool.ts";

const KIB = 1024;

test("memory that is given back receives the next message of about its size", () => {
  const first = takeBuffer(200 * KIB);
  giveBackBuffer(first.subarray(10, 20));
  expect(takeBuffer(30 * KIB).buffer).not.toBe(first.buffer);
  expect(takeBuffer(90 * KIB).buffer).not.toBe(first.buffer);
  const second = takeBuffer(190 * KIB);
  expect(second.buffer).toBe(first.buffer);
  expect(second).toHaveLength(190 * KIB);
});

test("memory is never handed out twice at a time, however often it is given back", () => {
  const first = takeBuffer(300 * KIB);
  giveBackBuffer(first);
  giveBackBuffer(first);
  const taken = [takeBuffer(300 * KIB), takeBuffer(300 * KIB)];
  expect(new Set(taken.map(({ buffer }) => buffer)).size).toBe(2);
});

test("memory of others is left alone", () => {
  const foreign = Buffer.allocUnsafeSlow(400 * KIB);
  giveBackBuffer(foreign);
  expect(takeBuffer(400 * KIB).buffer).not.toBe(foreign.buffer);
});
