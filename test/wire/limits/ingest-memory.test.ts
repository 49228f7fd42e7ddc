import { once } from "node:events";
import { connect } from "node:http2";
import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, type ConnectError } from "@connectrpc/connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import pg from "pg";
import { expect, inject, onTestFinished, test, vi } from "vitest";
import { RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import { IngestRequestSchema } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { serveMeasured } from "../../support/servers/measured-service.ts";

/** What the service may take beyond what it takes idle, whatever its clients do. */
const ALLOWANCE_BYTES = 256 * 1024 * 1024;

const MIB = 1024 * 1024;
const DIMENSIONS = 1536;
const BATCH_ROWS = 300;

/** An ingest session on a connection of its own, which sends bytes as they are. */
function openSession(address: string) {
  const session = connect(`http://${address}`);
  const stream = session.request({
    ":method": "POST",
    ":path": "/pgquiver.v1.IngestService/IngestSession",
    "content-type": "application/grpc",
    te: "trailers",
  });
  session.on("error", () => {});
  stream.on("error", () => {});
  stream.resume();
  const progress = { sentBytes: 0 };
  const ended = Promise.withResolvers<ConnectError | undefined>();
  stream.on("trailers", (trailers) => ended.resolve(findTrailerError(headers(trailers))));
  stream.on("response", (all) => {
    if (all["grpc-status"] !== undefined) ended.resolve(findTrailerError(headers(all)));
  });
  onTestFinished(() => session.destroy());
  return {
    progress,
    /** How the service ended the stream. */
    ended: ended.promise,
    /** Resolves when the bytes are on their way, or never will be. */
    send: async (bytes: Buffer) => {
      if (!stream.destroyed) await new Promise((resolve) => stream.write(bytes, resolve));
      progress.sentBytes += bytes.length;
    },
    finish: () => void stream.end(),
    close: async () => {
      session.destroy();
      if (!session.closed) await once(session, "close");
    },
  };
}

function headers(fields: object): Headers {
  return new Headers(Object.entries(fields).filter(([name]) => !name.startsWith(":")) as [string, string][]);
}

type Message = Exclude<MessageInitShape<typeof IngestRequestSchema>["message"], undefined>;

/** A message as gRPC frames it, with its length in front. */
function frame(message: Message): Buffer {
  const body = toBinary(IngestRequestSchema, create(IngestRequestSchema, { message }));
  return Buffer.concat([envelope(body.length), body]);
}

function envelope(length: number): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(length, 1);
  return head;
}

const embedding = Array.from({ length: DIMENSIONS }, (_, index) => index + 1);
const rows = Array.from({ length: BATCH_ROWS }, () => ({ content: "a row", embedding }));
/** Batches of 1.8 MiB. */
const batches = Array.from({ length: 8 }, (_, index) =>
  frame({ case: "batch", value: { seq: BigInt(index + 1), rows } }),
);

/** Resolves when the clients have sent nothing more for a while: they are held back, or have ended. */
async function untilStill(clients: readonly { progress: { sentBytes: number } }[]): Promise<void> {
  const total = () => clients.reduce((sum, { progress }) => sum + progress.sentBytes, 0);
  for (let before = -1; total() !== before;) {
    before = total();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
  }
}

/** How many connections of the service do, or wait in the midst of, something. */
async function countBusy(url: string): Promise<number> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    const { rows: busy } = await client.query(
      `select state, query from pg_stat_activity
       where datname = current_database() and application_name = 'pgquiver' and state <> 'idle'`,
    );
    return busy.length;
  } finally {
    await client.end();
  }
}

/** A stream is taken at once and to its end. */
async function expectFree({ address, storeId }: { address: string; storeId: string }): Promise<void> {
  const client = openSession(address);
  await client.send(frame({ case: "open", value: { vectorStoreId: storeId } }));
  await client.send(batches[0] as Buffer);
  await client.send(frame({ case: "finish", value: { rows: BigInt(BATCH_ROWS) } }));
  client.finish();
  expect(await client.ended).toBeUndefined();
}

/** Streams beyond what memory allows for are refused, and told when to come again. */
async function expectRefusals(clients: readonly { ended: Promise<ConnectError | undefined> }[]) {
  const open = Promise.resolve("open");
  const ends = await Promise.all(clients.map(({ ended }) => Promise.race([ended, open])));
  const refusals = ends.filter((end) => end !== "open") as ConnectError[];
  expect(refusals.length).toBeGreaterThan(0);
  expect(refusals.length).toBeLessThan(clients.length);
  for (const refusal of refusals) {
    expect(refusal.code).toBe(Code.ResourceExhausted);
    expect(refusal.findDetails(RetryInfoSchema)).toHaveLength(1);
  }
}

test("200 clients that stop in the midst of a message take little memory and no connection", async () => {
  const service = await serveMeasured();
  const clients = Array.from({ length: 200 }, () => openSession(service.address));
  for (const { send } of clients) {
    void (async () => {
      await send(frame({ case: "open", value: { vectorStoreId: service.storeId } }));
      await send(envelope(30 * MIB));
      for (let part = 0; part < 6; part++) await send(Buffer.alloc(MIB));
    })();
  }
  await untilStill(clients);
  expect(await service.growth()).toBeLessThan(ALLOWANCE_BYTES);
  if (inject("template").kind === "postgres")
    await expect.poll(() => countBusy(service.databaseUrl), { timeout: 5_000 }).toBe(0);
  await expectRefusals(clients);
  await Promise.all(clients.map(({ close }) => close()));
  await expectFree(service);
}, 300_000);

if (inject("template").kind === "postgres") {
  test("100 clients that send as fast as they can to a stalled database are held back or refused", async () => {
    const service = await serveMeasured();
    const blocker = new pg.Client(service.databaseUrl);
    await blocker.connect();
    onTestFinished(() => blocker.end());
    await blocker.query("begin");
    await blocker.query("lock table embeddings in exclusive mode");
    const clients = Array.from({ length: 100 }, () => openSession(service.address));
    for (const { send } of clients) {
      void (async () => {
        await send(frame({ case: "open", value: { vectorStoreId: service.storeId } }));
        for (const batch of batches) await send(batch);
      })();
    }
    await untilStill(clients);
    expect(await service.growth()).toBeLessThan(ALLOWANCE_BYTES);
    await expectRefusals(clients);
    await Promise.all(clients.map(({ close }) => close()));
    await vi.waitFor(async () => expect(await countBusy(service.databaseUrl)).toBe(0), 60_000);
    await blocker.query("rollback");
    await expectFree(service);
  }, 300_000);

  test("a client that sends as fast as it can takes little memory however much it sends", async () => {
    const service = await serveMeasured();
    const client = openSession(service.address);
    await client.send(frame({ case: "open", value: { vectorStoreId: service.storeId } }));
    for (let seq = 1; seq <= 150; seq++)
      await client.send(frame({ case: "batch", value: { seq: BigInt(seq), rows } }));
    await client.send(frame({ case: "finish", value: { rows: BigInt(150 * BATCH_ROWS) } }));
    client.finish();
    expect(await client.ended).toBeUndefined();
    expect(await service.growth()).toBeLessThan(ALLOWANCE_BYTES);
  }, 300_000);
}
