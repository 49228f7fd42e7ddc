import { once } from "node:events";
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ClientWritableStream } from "@grpc/grpc-js";
import type { WriteMode } from "../../gen/pgquiver/v1/embeddings_pb.ts";
import {
  IngestRequestSchema,
  IngestSummarySchema,
  type IngestSummary,
} from "../../gen/pgquiver/v1/ingest_pb.ts";
import type { BenchServer } from "./server.ts";

/** Encodes one message of an ingest. */
export function encodeMessage(message: MessageInitShape<typeof IngestRequestSchema>["message"]): Buffer {
  return Buffer.from(toBinary(IngestRequestSchema, create(IngestRequestSchema, message && { message })));
}

/** Sends encoded batches by grpc-js over a connection of its own, as fast as the service takes them. */
export async function sendIngest(
  { address, key }: Pick<BenchServer, "address" | "key">,
  open: { vectorStoreId: string; mode?: WriteMode },
  batches: Iterable<Buffer>,
): Promise<IngestSummary> {
  const client = new Client(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
  try {
    const metadata = new Metadata();
    metadata.set("authorization", `Bearer ${key}`);
    const asIs = (bytes: Buffer) => bytes;
    const done = Promise.withResolvers<Buffer>();
    const path = "/pgquiver.v1.IngestService/Ingest";
    const call = client.makeClientStreamRequest(path, asIs, asIs, metadata, (error, reply) => {
      if (error === null && reply !== undefined) done.resolve(reply);
      else done.reject(error ?? new Error("no reply"));
    });
    await send(call, encodeMessage({ case: "open", value: open }));
    for (const batch of batches) await send(call, batch);
    await send(call, encodeMessage({ case: "finish", value: {} }));
    call.end();
    return fromBinary(IngestSummarySchema, await done.promise);
  } finally {
    client.close();
  }
}

async function send(call: ClientWritableStream<Buffer>, body: Buffer): Promise<void> {
  if (!call.write(body)) await once(call, "drain");
}
