import { once } from "node:events";
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from "node:http2";

/** What a server has answered on a stream, once the stream is closed. */
export interface GrpcAnswer {
  head: IncomingHttpHeaders;
  /** Undefined: the answer had none, so that its status is in `head`, or the stream was reset. */
  trailers: IncomingHttpHeaders | undefined;
  body: Buffer;
}

/** Opens a stream for an RPC, such as `SearchService/Search`, as a gRPC client does, whose bytes the caller writes. */
export function openGrpcStream(
  session: ClientHttp2Session,
  rpc: string,
  headers: Record<string, string> = {},
): { stream: ClientHttp2Stream; answer: Promise<GrpcAnswer> } {
  const stream = session.request({
    ":method": "POST",
    ":path": `/pgquiver.v1.${rpc}`,
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
  const chunks: Buffer[] = [];
  let head: IncomingHttpHeaders = {};
  let trailers: IncomingHttpHeaders | undefined;
  stream.on("response", (received) => (head = received));
  stream.on("trailers", (received) => (trailers = received));
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  const answer = once(stream, "close").then(() => ({ head, trailers, body: Buffer.concat(chunks) }));
  return { stream, answer };
}
