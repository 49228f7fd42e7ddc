import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Messages } from "../../../src/api/message-reader.ts";
import { failureOf, never } from "../../support/servers/embedder.ts";

const patient = { idleMs: 60_000, draining: never };

async function* from(...messages: number[]) {
  yield* messages;
}

/** A stream that says nothing until it is told. */
function controlled() {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  let reads = 0;
  async function* stream() {
    reads++;
    yield await promise;
  }
  return { stream: stream(), say: resolve, fail: reject, reads: () => reads };
}

test("gives out the messages one by one, then the end as often as asked", async () => {
  const messages = new Messages(from(1, 2), patient, never);
  expect(await messages.next()).toEqual({ kind: "message", message: 1 });
  expect(await messages.next()).toEqual({ kind: "message", message: 2 });
  expect(await messages.next()).toEqual({ kind: "end" });
  expect(await messages.next()).toEqual({ kind: "end" });
});

test("reads nothing before it is asked to", async () => {
  const { stream, reads, say } = controlled();
  const messages = new Messages(stream, patient, never);
  expect(reads()).toBe(0);
  expect(await messages.isReady(1)).toBe(false);
  expect(reads()).toBe(1);
  say(7);
  expect(await messages.isReady(60_000)).toBe(true);
  expect(await messages.next()).toEqual({ kind: "message", message: 7 });
});

test("a stream that fails is ready, and says so when asked", async () => {
  const { stream, fail } = controlled();
  const messages = new Messages(stream, patient, never);
  fail(new Error("broken"));
  expect(await messages.isReady(60_000)).toBe(true);
  await expect(messages.next()).rejects.toThrow("broken");
});

test("a client that is silent for too long is told so", async () => {
  const messages = new Messages(controlled().stream, { ...patient, idleMs: 20 }, never);
  expect(await failureOf(messages.next())).toMatchObject({ reason: "DEADLINE_EXCEEDED" });
});

test("a client is not silent while it waits for the service, and has its whole time after that", async () => {
  const { stream, say } = controlled();
  const messages = new Messages(stream, { ...patient, idleMs: 200 }, never);
  const work = messages.owing(sleep(500, "done"));
  const next = messages.next();
  expect(await work).toBe("done");
  await sleep(20);
  say(1);
  expect(await next).toEqual({ kind: "message", message: 1 });
});

test("work that fails counts as over", async () => {
  const messages = new Messages(controlled().stream, { ...patient, idleMs: 50 }, never);
  await expect(messages.owing(Promise.reject(new Error("no")))).rejects.toThrow("no");
  expect(await failureOf(messages.next())).toMatchObject({ reason: "DEADLINE_EXCEEDED" });
});

test("a service that ends stops to wait, and takes no message any more", async () => {
  const draining = new AbortController();
  const messages = new Messages(controlled().stream, { ...patient, draining: draining.signal }, never);
  const next = messages.next();
  draining.abort();
  expect(await next).toEqual({ kind: "draining" });
  expect(await messages.next()).toEqual({ kind: "draining" });
});

test("a call that is over ends the wait with its reason, also when nothing was asked before", async () => {
  const call = new AbortController();
  const messages = new Messages(controlled().stream, patient, call.signal);
  const next = messages.next();
  const reason = new Error("given up");
  call.abort(reason);
  await expect(next).rejects.toBe(reason);
  await expect(messages.next()).rejects.toBe(reason);
});
