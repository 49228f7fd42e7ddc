import type { DescMethod } from "@bufbuild/protobuf";
import type { FastifyReply, FastifyRequest } from "fastify";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import type { Service } from "../service.ts";
import { applyRange, sendContent } from "./download.ts";
import { readForm } from "./multipart.ts";
import { NDJSON_TYPES, readIngest } from "./ndjson.ts";

/** How the body of an upload becomes the messages of a client's stream. */
export interface UploadBinding {
  kind: "client_streaming";
  /** The content types an upload may have; undefined stands for none. */
  types: readonly (string | undefined)[];
  /** Reads the messages, as the implementation receives them. */
  read: (request: FastifyRequest) => AsyncGenerator<unknown>;
}

/** How the messages of a server's stream become the body of a reply. */
export interface DownloadBinding {
  kind: "server_streaming";
  /** Takes headers of the HTTP request into the message. */
  prepare: (request: FastifyRequest, message: never) => void;
  send: (
    message: never,
    replies: AsyncIterable<never>,
    request: FastifyRequest,
    reply: FastifyReply,
  ) => Promise<FastifyReply>;
}

/**
 * The RPCs whose body or reply is not what `rest.ts` makes of every other: JSON for a single message, and NDJSON with
 * one message a line for a stream. An RPC that is not listed needs no code here.
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
  [FileService.method.getFileContent, { kind: "server_streaming", prepare: applyRange, send: sendContent }],
]);

/** Throws where a binding is for an RPC of another kind: that is a fault of the table above. */
export function checkBindings(services: readonly Service[]): void {
  for (const method of services.flatMap(({ desc }) => desc.methods)) {
    const kind = bindings.get(method)?.kind ?? method.methodKind;
    if (kind !== method.methodKind)
      throw new Error(`${method.toString()} is ${method.methodKind}, but its binding is ${kind}`);
  }
}
