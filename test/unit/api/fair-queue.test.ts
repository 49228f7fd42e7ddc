import { expect, test } from "vitest";
import { FairQueue } from "../../../src/api/concurrency/fair-queue.ts";

const never = new AbortController().signal;
const open = (options: Partial<ConstructorParameters<typeof FairQueue>[0]> = {}) =>
  new FairQueue({
    permits: 1,
    waitingMax: 100,
    waitMsMax: 60_000,
    refuse: () => new Error("full"),
    ...options,
  });

test("permits go round robin to callers, then to the calls of a caller", async () => {
  const queue = open();
  const first = await queue.acquire("held", {}, never);
  const [one, two] = [{}, {}];
  const order: string[] = [];
  const wait = async (caller: string, call: object, name: string) => {
    using _ = await queue.acquire(caller, call, never);
    order.push(name);
  };
  const all = [
    wait("loud", one, "loud 1a"),
    wait("loud", one, "loud 1b"),
    wait("loud", one, "loud 1c"),
    wait("loud", two, "loud 2a"),
    wait("quiet", {}, "quiet"),
  ];
  expect(queue.waiting).toBe(5);
  first[Symbol.dispose]();
  await Promise.all(all);
  expect(order).toEqual(["loud 1a", "quiet", "loud 2a", "loud 1b", "loud 1c"]);
  expect(queue.waiting).toBe(0);
  (await queue.acquire("later", {}, never))[Symbol.dispose]();
});

test("a full queue refuses at once, and one caller cannot fill it", async () => {
  const queue = open({ waitingMax: 4 });
  const held = await queue.acquire("held", {}, never);
  const waiting = [queue.acquire("a", {}, never), queue.acquire("a", {}, never)];
  const full = { message: "full" };
  await expect(queue.acquire("a", {}, never)).rejects.toMatchObject(full);
  waiting.push(queue.acquire("b", {}, never), queue.acquire("c", {}, never));
  await expect(queue.acquire("d", {}, never)).rejects.toMatchObject(full);
  held[Symbol.dispose]();
  await Promise.all(waiting.map(async (permit) => (await permit)[Symbol.dispose]()));
});

test("who gives up or waits too long leaves the queue without a permit", async () => {
  const queue = open({ waitMsMax: 20 });
  const held = await queue.acquire("held", {}, never);
  const gone = new AbortController();
  const givenUp = queue.acquire("a", {}, gone.signal);
  gone.abort(new Error("enough"));
  await expect(givenUp).rejects.toThrow("enough");
  await expect(queue.acquire("a", {}, never)).rejects.toMatchObject({
    message: "full",
  });
  expect(queue.waiting).toBe(0);
  held[Symbol.dispose]();
  (await queue.acquire("b", {}, never))[Symbol.dispose]();
});
