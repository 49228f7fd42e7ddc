import { create } from "@bufbuild/protobuf";
import { createHandlerContext } from "@connectrpc/connect";
import { createContextValues } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { IngestService, IngestSummarySchema } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { NOBODY, principal } from "../../../src/api/principal.ts";
import { Watches } from "../../../src/api/watching/watches.ts";
import { limitOf, notFound, reasonOf } from "../../../src/errors.ts";
import { limits } from "../../../src/limits.ts";

const { watchIngest: method } = IngestService.method;

function contextOf(caller: string, signal = new AbortController().signal) {
  return createHandlerContext({
    service: method.parent,
    method,
    protocolName: "grpc",
    requestMethod: "POST",
    url: "",
    requestSignal: signal,
    contextValues: createContextValues().set(principal, { ...NOBODY, project: "p", caller }),
  });
}

/** An ingest whose rows can be set, and how often it was read. */
function createThing() {
  const thing = {
    rows: 0n,
    reads: 0,
    isFinal: false,
    failure: undefined as Error | undefined,
    desc: IngestSummarySchema,
    key: "a",
    read: async () => {
      thing.reads++;
      if (thing.failure !== undefined) throw thing.failure;
      const state = create(IngestSummarySchema, { rowsWritten: thing.rows });
      return { state, isFinal: thing.isFinal };
    },
  };
  return thing;
}

const never = new AbortController().signal;

test("those who watch one thing share its reads, and each gets every change and the end", async () => {
  const watches = new Watches(never);
  const thing = createThing();
  const all = Array.from({ length: 50 }, () => watches.watch(thing, contextOf("a")));
  await Promise.all(all.map((one) => one.next()));
  expect(thing.reads).toBe(1);
  thing.rows = 7n;
  const second = await Promise.all(all.map((one) => one.next()));
  expect(second.map(({ value }) => value?.rowsWritten)).toEqual(Array(50).fill(7n));
  thing.isFinal = true;
  const last = await Promise.all(all.map(async (one) => [(await one.next()).done, (await one.next()).done]));
  expect(last).toEqual(Array(50).fill([false, true]));
  expect(thing.reads).toBeLessThan(10);
});

test("a caller has a limited number of watches, which is named, and leaves others theirs", async () => {
  const watches = new Watches(never);
  const thing = createThing();
  const leaving = new AbortController();
  const open = Array.from({ length: limits.watches_per_caller_max }, () =>
    watches.watch(thing, contextOf("a", leaving.signal)),
  );
  await Promise.all(open.map((one) => one.next()));
  const error = await watches
    .watch(thing, contextOf("a"))
    .next()
    .catch((failure: unknown) => failure);
  expect([reasonOf(error), limitOf(error)]).toEqual(["RATE_LIMIT_EXCEEDED", "max_concurrent_watches"]);
  expect((await watches.watch(thing, contextOf("b")).next()).done).toBe(false);
  const gone = Promise.allSettled(open.map((one) => one.next()));
  leaving.abort(new Error("left"));
  expect((await gone).every(({ status }) => status === "rejected")).toBe(true);
  expect((await watches.watch(thing, contextOf("a")).next()).done).toBe(false);
});

test("a watch ends with the error of a thing that was deleted, and at a shutdown", async () => {
  const draining = new AbortController();
  const watches = new Watches(draining.signal);
  const thing = createThing();
  const watch = watches.watch(thing, contextOf("a"));
  await watch.next();
  thing.failure = notFound("gone", "ingest_id");
  await expect(watch.next()).rejects.toThrow("gone");
  const other = watches.watch(createThing(), contextOf("a"));
  await other.next();
  const ended = other.next();
  draining.abort();
  await expect(ended).rejects.toThrow("shutting down");
});
