import type { IncomingHttpHeaders } from "node:http2";
import type { DescMethod } from "@bufbuild/protobuf";
import { scopeOf } from "../../api/scope.ts";
import { requestLimits } from "../limits/request-limits.ts";
import type { ServeStream } from "../port.ts";
import type { AdmitFor } from "../service.ts";
import { serveStreaming } from "./streaming.ts";
import type { GrpcOptions, Target } from "./target.ts";
import { serveUnary } from "./unary.ts";

/**
 * A fast path for gRPC calls in binary without compression, as nearly all gRPC clients send them: serves unary calls,
 * and the streams of clients of services with an `admit`, directly from the HTTP/2 stream. Declines everything else,
 * such as JSON and compressed requests, which Connect then serves. Connect's handler takes half a millisecond more CPU
 * time per unary call, see bench/README.md.
 */
export function createGrpc(options: GrpcOptions): ServeStream {
  const targets = new Map<string, Target>();
  for (const { desc, binaryDesc = desc, implementation, admit } of options.services) {
    for (const method of binaryDesc.methods) {
      const run = implementation[method.localName];
      if (run === undefined || !isDirect(method, admit)) continue;
      targets.set(`/${desc.typeName}/${method.name}`, {
        method,
        run,
        limits: requestLimits(method, options.requestBytesMax),
        scope: scopeOf(method),
        admit: admit ?? options.admitBody,
      });
    }
  }
  return (stream, headers) => {
    const target = isPlain(headers) ? targets.get(headers[":path"] ?? "") : undefined;
    if (target === undefined) return false;
    const serve = target.method.methodKind === "unary" ? serveUnary : serveStreaming;
    serve(target, stream, headers, options).catch((error: unknown) => {
      options.log.error({ err: error }, "failed");
      stream.destroy();
    });
    return true;
  };
}

function isDirect({ methodKind }: DescMethod, admit: AdmitFor | undefined): boolean {
  if (methodKind === "unary") return true;
  return admit !== undefined && methodKind !== "server_streaming";
}

/** Whether a request is gRPC with binary protobuf, without compression, and not waiting for `100 Continue`. */
function isPlain(headers: IncomingHttpHeaders): boolean {
  return (
    headers[":method"] === "POST" &&
    headers.expect === undefined &&
    /^application\/grpc(?:\+proto)?$/i.test(headers["content-type"] ?? "") &&
    /^(?:identity)?$/.test(headers["grpc-encoding"]?.toString() ?? "")
  );
}
