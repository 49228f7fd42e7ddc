import { getOption, hasOption, type DescMethod, type DescService } from "@bufbuild/protobuf";
import type { FastifyReply, FastifyRequest } from "fastify";
import { http } from "../../../gen/google/api/annotations_pb.ts";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import type { Service } from "../service.ts";
import { applyRange, sendContent } from "./download.ts";
import { readForm, readPartForm } from "./multipart.ts";
import { NDJSON_TYPES, readIngest } from "./ndjson.ts";
import { parsePath } from "./path.ts";

/** How an HTTP body is converted to the messages of a client-streaming RPC. */
export interface UploadBinding {
  kind: "client_streaming";
  /** Accepted content types; undefined: a request without a content type. */
  types: readonly (string | undefined)[];
  /** Reads the body as the messages that the implementation receives. */
  read: (request: FastifyRequest) => AsyncGenerator<unknown>;
}

/** How the messages of a server-streaming RPC are converted to an HTTP response. */
export interface DownloadBinding {
  kind: "server_streaming";
  /** Copies what HTTP headers of the request say into the message. */
  prepare: (request: FastifyRequest, message: never) => void;
  send: (
    message: never,
    replies: AsyncIterable<never>,
    request: FastifyRequest,
    reply: FastifyReply,
  ) => Promise<FastifyReply>;
}

/**
 * The RPCs whose HTTP body or response is neither JSON (a single message) nor NDJSON with one message per
 * line (a stream). RPCs that are not listed need no code here.
 */
export const bindings: ReadonlyMap<DescMethod, UploadBinding | DownloadBinding> = new Map<
  DescMethod,
  UploadBinding | DownloadBinding
>([
  [IngestService.method.ingest, { kind: "client_streaming", types: NDJSON_TYPES, read: readIngest }],
  [
    FileService.method.uploadFile,
    { kind: "client_streaming", types: ["multipart/form-data"], read: readForm },
  ],
  [
    FileService.method.addUploadPart,
    { kind: "client_streaming", types: ["multipart/form-data"], read: readPartForm },
  ],
  [FileService.method.getFileContent, { kind: "server_streaming", prepare: applyRange, send: sendContent }],
]);

/**
 * Throws when a binding's kind differs from the RPC's kind in the proto file, which is a fault of the table
 * above.
 */
export function checkBindings(services: readonly Service[]): void {
  for (const method of services.flatMap(({ desc }) => desc.methods)) {
    const kind = bindings.get(method)?.kind ?? method.methodKind;
    if (kind !== method.methodKind)
      throw new Error(`${method.toString()} is ${method.methodKind}, but its binding is ${kind}`);
  }
}

/**
 * The URLs of RPCs whose requests are streams, as Fastify spells them: `POST /v1/files`. Their bodies may
 * pause, and have limits of their own.
 */
export function streamingRoutes(services: readonly Service[]): ReadonlySet<string> {
  const routes = new Set<string>();
  for (const method of services.flatMap(({ desc }) => desc.methods)) {
    if (method.methodKind !== "client_streaming" && method.methodKind !== "bidi_streaming") continue;
    routes.add(`POST /${method.parent.typeName}/${method.name}`);
    if (!hasOption(method, http)) continue;
    const rule = getOption(method, http);
    for (const { pattern } of [rule, ...rule.additionalBindings]) {
      if (pattern.case !== undefined && pattern.case !== "custom")
        routes.add(`${pattern.case.toUpperCase()} ${parsePath(pattern.value).route}`);
    }
  }
  return routes;
}

/** The URLs of RPCs that stream in both directions, as Fastify spells them. */
export function bidirectionalRoutes(services: readonly DescService[]): ReadonlySet<string> {
  return new Set(
    services
      .flatMap(({ methods }) => methods)
      .filter(({ methodKind }) => methodKind === "bidi_streaming")
      .map(({ parent, name }) => `/${parent.typeName}/${name}`),
  );
}
