import { once } from "node:events";
import { connect as connectHttp2, type ClientHttp2Session } from "node:http2";
import { Worker } from "node:worker_threads";
import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, onTestFinished, test } from "vitest";
import { WriteMode } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { IngestRequestSchema } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { jsonClient } from "../../support/clients/json.ts";
import { startServer, type TestServer } from "../../support/servers/server.ts";

/** Delay of each direction, as between two data centres of a region. */
const DELAY_MS = 5;

const DIMENSIONS = 1536;
const BATCH_ROWS = 100;

/** The windows a Node server has unless it is told otherwise: the 65,535 bytes of RFC 9113, 6.9.2. */
const NODES_DEFAULTS = { streamWindowBytes: 65_535, sessionWindowBytes: 65_535 };

/** A way to a port of loopback on which every byte takes `delayMs` each way; a thread of its own, to have a core of its own. */
const PROXY = `
  const { connect, createServer } = require("node:net");
  const { parentPort, workerData: { host, port, delayMs } } = require("node:worker_threads");
  const pipe = (from, to) => {
    from.on("data", (chunk) => {
      setTimeout(() => {
        if (!to.writable || to.write(chunk)) return;
        from.pause();
        to.once("drain", () => from.resume());
      }, delayMs);
    });
    from.on("end", () => setTimeout(() => to.end(), delayMs));
    from.on("error", () => to.destroy());
  };
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (near) => {
    const far = connect({ host, port, noDelay: true, allowHalfOpen: true });
    pipe(near, far);
    pipe(far, near);
  }).listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));
`;

type Message = Exclude<MessageInitShape<typeof IngestRequestSchema>["message"], undefined>;

/** A message as gRPC frames it, with its length in front. */
function frame(message: Message): Buffer {
  const body = toBinary(IngestRequestSchema, create(IngestRequestSchema, { message }));
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}

/**
 * An upload as it goes over the wire. All its rows have one id, so that the database stores the first
 * and the service skips the others: what is measured is the way there.
 */
function frameUpload(storeId: string, batches: number): Buffer[] {
  const embedding = Array.from({ length: DIMENSIONS }, (_, index) => index + 1);
  const rows = Array.from({ length: BATCH_ROWS }, () => ({ id: "same", content: "a row", embedding }));
  return [
    frame({ case: "open", value: { vectorStoreId: storeId, mode: WriteMode.SKIP_EXISTING } }),
    ...Array.from({ length: batches }, (_, index) =>
      frame({ case: "batch", value: { seq: BigInt(index + 1), rows } }),
    ),
    frame({ case: "finish", value: { rows: BigInt(batches * BATCH_ROWS) } }),
  ];
}

/** A client far away from a server, with something to send. */
async function reach(server: TestServer, batches: number) {
  const [host, port] = server.address.split(":");
  const proxy = new Worker(PROXY, { eval: true, workerData: { host, port, delayMs: DELAY_MS } });
  onTestFinished(async () => void (await proxy.terminate()));
  const [far] = (await once(proxy, "message")) as [number];
  const session = connectHttp2(`http://127.0.0.1:${far}`);
  onTestFinished(() => session.destroy());
  const { json } = await jsonClient(server.url)("POST", "/v1/vector_stores");
  const upload = frameUpload(String(json["id"]), batches);
  return { rowsPerSecond: async () => (batches * BATCH_ROWS) / (await time(session, upload)) };
}

/** Seconds of one upload. */
async function time(session: ClientHttp2Session, frames: readonly Buffer[]): Promise<number> {
  const startedAt = performance.now();
  const stream = session.request({
    ":method": "POST",
    ":path": "/pgquiver.v1.IngestService/Ingest",
    "content-type": "application/grpc",
    te: "trailers",
  });
  stream.resume();
  const trailers = once(stream, "trailers");
  for (const bytes of frames) if (!stream.write(bytes)) await once(stream, "drain");
  stream.end();
  const [{ "grpc-status": status, "grpc-message": message }] = (await trailers) as [Record<string, string>];
  expect(status, message).toBe("0");
  return (performance.now() - startedAt) / 1000;
}

test("far away, an upload is several times as fast as through the windows Node has by default", async () => {
  await using server = await startServer();
  await using narrowServer = await startServer({ database: server.database, port: NODES_DEFAULTS });
  const wide = await reach(server, 60);
  const narrow = await reach(narrowServer, 4);
  // The best of some rounds: a busy machine slows both, and neither is ever faster than the way there allows.
  let [bestWide, bestNarrow] = [0, 0];
  for (let round = 0; round < 3 || (bestWide <= 3 * bestNarrow && round < 12); round++) {
    bestNarrow = Math.max(bestNarrow, await narrow.rowsPerSecond());
    bestWide = Math.max(bestWide, await wide.rowsPerSecond());
  }
  // Ten and more where the processor has time to spare; one where the windows were Node's.
  expect(bestWide / bestNarrow).toBeGreaterThan(3);
}, 300_000);
