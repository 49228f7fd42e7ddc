import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { IngestBatchSchema } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { bulkTurn } from "../../../src/api/concurrency/bulk-turns.ts";
import { ByteBudget } from "../../../src/api/byte-budget.ts";
import { Messages } from "../../../src/api/message-reader.ts";
import type { ReceivedIngest } from "../../../src/api/received-ingest.ts";
import { GroupReader } from "../../../src/ingest/group-reader.ts";
import type { IngestSession } from "../../../src/ingest/session.ts";
import { countTurns } from "../../support/servers/turns.ts";

function busy(ms: number): void {
  for (const endAt = performance.now() + ms; performance.now() < endAt;);
}

test("work in small steps lets the event loop turn once a slice is used up", async () => {
  const work = async () => {
    for (let step = 0; step < 20; step++) {
      await bulkTurn();
      busy(0.5);
    }
  };
  expect(await countTurns(work())).toBeGreaterThanOrEqual(9);
});

test("of several works one has a slice in a turn of the event loop, in order", async () => {
  const steps: number[] = [];
  const perTurn: number[] = [];
  const work = async (name: number) => {
    for (let step = 0; step < 5; step++) {
      await bulkTurn();
      steps.push(name);
      busy(1.1);
    }
  };
  let seen = 0;
  const all = Promise.all([0, 1, 2, 3].map(work)).then(() => (seen = Infinity));
  const observe = () => {
    if (seen === Infinity) return;
    perTurn.push(steps.length - seen);
    seen = steps.length;
    setImmediate(observe);
  };
  observe();
  await all;
  expect(Math.max(...perTurn)).toBe(1);
  expect(steps.slice(0, 8)).toEqual([0, 1, 2, 3, 0, 1, 2, 3]);
});

test("the batches of an ingest that are at hand are read in slices", async () => {
  const batches = 30;
  const rows = Array.from({ length: 300 }, (_, row) => ({
    content: `row ${row}`,
    embedding: Array.from({ length: 384 }, (_, axis) => axis + 1),
  }));
  async function* received(): AsyncGenerator<ReceivedIngest> {
    for (let seq = 1n; seq <= batches; seq++) {
      const value = toBinary(IngestBatchSchema, create(IngestBatchSchema, { seq, rows }));
      yield { message: { case: "encodedBatch", value } } as ReceivedIngest;
    }
  }
  const session = {
    key: { storeId: "store", ingestId: "ingest" },
    ingest: { through_seq: "0", state: "open" },
    store: { id: "store", dimensions: null },
    settings: { dimensions: undefined },
  } as unknown as IngestSession;
  const { signal } = new AbortController();
  const options = { idleMs: 60_000, draining: signal };
  const messages = new Messages(received(), options, signal);
  const reader = new GroupReader(
    messages,
    session,
    {
      budget: new ByteBudget(1 << 28),
      bytesMax: Infinity,
      pace: { tryTake: () => true, take: async () => {} },
    },
    signal,
  );
  const group = reader.next();
  expect(await countTurns(group)).toBeGreaterThanOrEqual(batches / 10);
  expect((await group).batches.length).toBe(batches);
});
