import { once } from "node:events";
import { connect as connectHttp2, constants, type IncomingHttpHeaders } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { ListEmbeddingsRequestSchema } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { startServer } from "../../support/servers/server.ts";

const MIB = 1024 * 1024;
const GRACE_MS = 1_000;

/** Memory for one reply of 3 MiB and not for two. */
const server = await startServer({ port: { unreadBytesMax: 4 * MIB, unreadGraceMs: GRACE_MS } });
afterAll(() => server[Symbol.asyncDispose]());
const headers = { "content-type": "application/json" };

beforeAll(async () => {
  const post = async (path: string, body: object) =>
    fetch(server.url + path, { method: "POST", headers, body: JSON.stringify(body) });
  await post("/v1/vector_stores", { id: "s" });
  for (let row = 0; row < 3; row++) {
    const content = `${row}`.repeat(MIB - 1);
    expect((await post("/v1/vector_stores/s/embeddings", { content, embedding: [1, row] })).status).toBe(200);
  }
});

/** Asks for some MiB, without reading them. */
interface Client {
  /** The status as soon as it is known, and why the reply ended. */
  ask: () => { status: Promise<string>; ended: Promise<unknown> };
}

const message = toBinary(
  ListEmbeddingsRequestSchema,
  create(ListEmbeddingsRequestSchema, { vectorStoreId: "s" }),
);
const prefix = Buffer.from([0, 0, 0, 0, message.length]);

function http2(request: Record<string, string>, body?: Uint8Array): Client {
  return {
    ask() {
      const session = connectHttp2(server.url, { settings: { initialWindowSize: 0 } });
      session.on("error", () => {});
      onTestFinished(() => session.destroy());
      const stream = session.request(request, { endStream: body === undefined });
      stream.on("error", () => {});
      if (body !== undefined) stream.end(body);
      const status = async () => {
        const [answer] = (await once(stream, "response")) as [IncomingHttpHeaders];
        return `${String(answer[":status"])} ${String(answer["grpc-status"] ?? "")}`.trim();
      };
      const ended = once(stream, "close").then(() => stream.rstCode === constants.NGHTTP2_CANCEL);
      return { status: status(), ended };
    },
  };
}

const rpc = { ":method": "POST", ":path": "/pgquiver.v1.EmbeddingService/ListEmbeddings", te: "trailers" };

test.each<[string, Client, string, string]>([
  ["REST over HTTP/2", http2({ ":path": "/v1/vector_stores/s/embeddings?limit=3" }), "200", "429"],
  [
    "gRPC",
    http2({ ...rpc, "content-type": "application/grpc" }, Buffer.concat([prefix, message])),
    "200",
    "200 8",
  ],
  ["Connect", http2({ ...rpc, "content-type": "application/proto" }, message), "200", "429"],
])(
  "a reply that nobody reads makes room for others after a while, over %s",
  async (_, client, ok, refused) => {
    const first = client.ask();
    expect(await first.status).toBe(ok);
    const startedAt = performance.now();
    let status = await client.ask().status;
    // A small reply needs no memory.
    expect((await fetch(`${server.url}/v1/vector_stores`)).status).toBe(200);
    while (status === refused) status = await client.ask().status;
    expect(status).toBe(ok);
    expect(performance.now() - startedAt).toBeGreaterThan(GRACE_MS / 2);
    expect(await first.ended).toBe(true);
    await expect
      .poll(async () => (await fetch(`${server.url}/v1/vector_stores/s/embeddings`)).status)
      .toBe(200);
  },
);
