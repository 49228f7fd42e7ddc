import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import {
  Client as GrpcClient,
  credentials,
  Metadata,
  type ClientDuplexStream,
  type ClientWritableStream,
  type ServiceError,
} from "@grpc/grpc-js";
import { fromJSON, loadSync, type MessageTypeDefinition, type ServiceDefinition } from "@grpc/proto-loader";
import {
  ErrorInfoSchema,
  RetryInfoSchema,
  type ErrorInfo,
  type RetryInfo,
} from "../../../gen/google/rpc/error_details_pb.ts";
import {
  IngestEventSchema,
  IngestRequestSchema,
  IngestService,
  IngestSummarySchema,
} from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { callError, type CallError, type Json } from "./client.ts";
import type { TestServer } from "../servers/server.ts";

/** A row with the proto's field names; metadata is plain JSON. */
export interface Row {
  id?: string;
  content?: string;
  embedding?: ArrayLike<number>;
  /** Replaces `embedding` for the client that declares the field as bytes. */
  bytes?: Uint8Array;
  metadata?: unknown;
  created_at?: number;
}

/** One message of a stream. Enum values are given by their full names. */
export type IngestMessage =
  | { open: Json }
  | { batch: { seq: number; rows: Row[] } }
  | { finish: { rows?: number } };

/** A refused row, with the proto's field names; 64-bit integers are numbers. */
export interface RowError {
  seq: number;
  index: number;
  id: string;
  code: string;
  field: string;
  message: string;
}

export interface Summary {
  ingest_id: string;
  vector_store_id: string;
  state: string;
  through_seq: number;
  rows_written: number;
  rows_skipped: number;
  rows_rejected: number;
  errors: RowError[];
}

/** An event: exactly one of the fields is set. */
export interface IngestEvent {
  opened?: { ingest_id: string; resume_after_seq: number; message_bytes_max: number };
  committed?: Omit<Summary, "ingest_id" | "vector_store_id" | "state">;
  draining?: { through_seq: number };
  summary?: Summary;
}

/** The error of a stream, with its retry delay. */
export interface IngestError extends CallError {
  retryAfterMs: number | null;
}

/** The sending side of a stream. */
interface Sending {
  /** Sends a message, and waits for backpressure of the transport to end. */
  readonly send: (message: IngestMessage) => Promise<void>;
  /** Half-closes the stream. */
  readonly end: () => void;
  readonly cancel: () => void;
}

/** A call of `Ingest`. */
export interface Upload extends Sending {
  reply: Promise<Summary>;
}

/** A call of `IngestSession`. */
export interface Session extends Sending {
  /** The next event; undefined at the end. Rejects with an IngestError when the stream fails. */
  readonly next: () => Promise<IngestEvent | undefined>;
}

/** A gRPC client of the ingest service. */
export interface IngestClient extends AsyncDisposable {
  readonly ingest: (options?: { timeoutMs?: number }) => Upload;
  readonly session: (options?: { timeoutMs?: number }) => Session;
  call(
    rpc: "GetIngest" | "AbortIngest",
    key: { vector_store_id: string; ingest_id: string },
  ): Promise<Summary>;
  /** Closes the connection abruptly; absent if the library does not allow that. */
  readonly cut?: () => void;
}

/** A client library. */
export interface IngestLibrary {
  name: string;
  readonly connect: (server: Pick<TestServer, "url" | "address">) => IngestClient;
}

const root = join(import.meta.dirname, "../../..");
const floats = definitionsOf("repeated float embedding = 3;");
const bytes = definitionsOf("bytes embedding = 3;");

/** Loads the service's definition with protobufjs, with `field` as the declaration of `embedding`. */
function definitionsOf(field: string): Record<string, ServiceDefinition[string]> {
  const directory = mkdtempSync(join(tmpdir(), "pgquiver-proto-"));
  const source = readFileSync(join(root, "proto/pgquiver/v1/embeddings.proto"), "utf8");
  const changed = source.replace(/repeated float embedding = 3 \[.*\];/, field);
  if (!changed.includes(field)) throw new Error("the field `embedding` is not where it was");
  mkdirSync(join(directory, "pgquiver/v1"), { recursive: true });
  writeFileSync(join(directory, "pgquiver/v1/embeddings.proto"), changed);
  const definitions = loadSync("pgquiver/v1/ingest.proto", {
    includeDirs: [directory, join(root, "proto"), join(root, "node_modules/protobufjs")],
    keepCase: true,
    longs: Number,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  rmSync(directory, { recursive: true });
  return definitions["pgquiver.v1.IngestService"] as ServiceDefinition;
}

type Codec = typeof floats;

function methodOf(codec: Codec, rpc: string): ServiceDefinition[string] {
  const method = codec[rpc];
  if (method === undefined) throw new Error(`no RPC ${rpc}`);
  return method;
}

function encode(codec: Codec, message: IngestMessage): Buffer {
  const plain =
    "batch" in message
      ? { batch: { seq: message.batch.seq, rows: message.batch.rows.map(toPlainRow) } }
      : message;
  return methodOf(codec, "Ingest").requestSerialize(plain);
}

function toPlainRow({ bytes: vector, embedding, metadata, ...row }: Row): Json {
  return {
    ...row,
    ...(metadata !== undefined && { metadata: writeStruct(metadata as Json) }),
    embedding: vector ?? Array.from(embedding ?? []),
  };
}

/** Converts JSON to the message google.protobuf.Struct, for which protobufjs has no special mapping. */
function writeStruct(json: Json): Json {
  return { fields: Object.fromEntries(Object.entries(json).map(([key, value]) => [key, writeValue(value)])) };
}

function writeValue(json: unknown): Json {
  if (json === null) return { nullValue: 0 };
  if (Array.isArray(json)) return { listValue: { values: json.map(writeValue) } };
  if (typeof json === "object") return { structValue: writeStruct(json as Json) };
  return { [`${typeof json === "boolean" ? "bool" : typeof json}Value`]: json };
}

/** The most common library, which shares no code with the server. */
export const grpcJs: IngestLibrary = { name: "grpc-js", connect: (server) => grpcJsClient(server, floats) };

/** grpc-js with `embedding` declared as `bytes`; rows have `bytes` instead of `embedding`. */
export const grpcJsBytes: IngestLibrary = {
  name: "grpc-js with vectors as bytes",
  connect: (server) => grpcJsClient(server, bytes),
};

function grpcJsClient({ address }: Pick<TestServer, "address">, codec: Codec): IngestClient {
  const client = new GrpcClient(address, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
  });
  const deadlineIn = (timeoutMs?: number) =>
    timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
  const asIs = (message: Buffer) => message;
  return {
    ingest({ timeoutMs } = {}) {
      const { path, responseDeserialize } = methodOf(codec, "Ingest");
      const { promise, resolve, reject } = Promise.withResolvers<Summary>();
      const call = client.makeClientStreamRequest(
        path,
        asIs,
        responseDeserialize as (reply: Buffer) => Summary,
        new Metadata(),
        deadlineIn(timeoutMs),
        (error, reply) => (error === null ? resolve(reply as Summary) : reject(fromServiceError(error))),
      );
      promise.catch(() => {});
      return { ...sendingBy(call, codec), reply: promise };
    },
    session({ timeoutMs } = {}) {
      const { path, responseDeserialize } = methodOf(codec, "IngestSession");
      const deserialize = responseDeserialize as (event: Buffer) => IngestEvent;
      const call = client.makeBidiStreamRequest(
        path,
        asIs,
        deserialize,
        new Metadata(),
        deadlineIn(timeoutMs),
      );
      const events = call[Symbol.asyncIterator]() as AsyncIterator<IngestEvent>;
      return {
        ...sendingBy(call, codec),
        next: () =>
          events.next().then(
            (result) => (result.done === true ? undefined : result.value),
            (error: ServiceError) => Promise.reject(fromServiceError(error)),
          ),
      };
    },
    call(rpc, key) {
      const { path, requestSerialize, responseDeserialize } = methodOf(codec, rpc);
      return new Promise((resolve, reject) => {
        client.makeUnaryRequest(
          path,
          requestSerialize as (key: Json) => Buffer,
          responseDeserialize as (reply: Buffer) => Summary,
          key,
          (error, reply) => (error === null ? resolve(reply as Summary) : reject(fromServiceError(error))),
        );
      });
    },
    async [Symbol.asyncDispose]() {
      client.close();
    },
  };
}

function sendingBy(
  call: ClientWritableStream<Buffer> | ClientDuplexStream<Buffer, IngestEvent>,
  codec: Codec,
): Sending {
  const over = Promise.withResolvers<void>();
  call.once("status", () => over.resolve());
  call.on("error", () => {});
  return {
    async send(message) {
      // A write to a call that has ended is ignored, as by a client that has not yet noticed the end.
      if (!call.write(encode(codec, message))) await Promise.race([once(call, "drain"), over.promise]);
    },
    end: () => call.end(),
    cancel: () => call.cancel(),
  };
}

/** google.rpc.Status, defined here because the repository has no proto file for it. */
const { Status } = fromJSON({
  nested: {
    Status: { fields: { details: { rule: "repeated", type: "Detail", id: 3 } } },
    Detail: { fields: { typeUrl: { type: "string", id: 1 }, value: { type: "bytes", id: 2 } } },
  },
}) as Record<string, MessageTypeDefinition<Json, { details?: { typeUrl: string; value: Buffer }[] }>>;

function fromServiceError(error: ServiceError): IngestError {
  const [status] = (error.metadata?.get("grpc-status-details-bin") ?? []) as Buffer[];
  const details = status === undefined ? [] : (Status?.deserialize(status).details ?? []);
  const find = (name: string) =>
    details.find(({ typeUrl }) => typeUrl.endsWith(`/google.rpc.${name}`))?.value;
  const info = find("ErrorInfo");
  const retry = find("RetryInfo");
  return ingestError(
    error.code,
    error.details,
    info && fromBinary(ErrorInfoSchema, info),
    retry && fromBinary(RetryInfoSchema, retry),
  );
}

function ingestError(
  code: number,
  message: string,
  info: ErrorInfo | undefined,
  retry: RetryInfo | undefined,
): IngestError {
  const delay = retry?.retryDelay;
  const error = callError(code, message, {
    reason: info?.reason ?? null,
    param: info?.metadata["param"] ?? null,
  });
  const retryAfterMs = delay === undefined ? null : Number(delay.seconds) * 1000 + delay.nanos / 1e6;
  return Object.assign(error, { retryAfterMs });
}

/**
 * connect-node over HTTP/2. Its messages are converted with protobufjs, to the same form as those of grpc-js.
 */
export const connectNode: IngestLibrary = {
  name: "connect-node",
  connect({ url }) {
    const sessionManager = new Http2SessionManager(url);
    const client = createClient(IngestService, createGrpcTransport({ baseUrl: url, sessionManager }));
    const fromConnect = (error: unknown) => {
      const failed = ConnectError.from(error);
      const [info] = failed.findDetails(ErrorInfoSchema);
      const [retry] = failed.findDetails(RetryInfoSchema);
      throw ingestError(failed.code, failed.rawMessage, info, retry);
    };
    const begin = (timeoutMs: number | undefined) => {
      const { messages, ...sending } = queue();
      const abort = new AbortController();
      const options = { signal: abort.signal, ...(timeoutMs !== undefined && { timeoutMs }) };
      return { sending: { ...sending, cancel: () => abort.abort() }, messages, options };
    };
    return {
      ingest({ timeoutMs } = {}) {
        const { sending, messages, options } = begin(timeoutMs);
        const reply = client
          .ingest(messages, options)
          .then(
            (summary) =>
              methodOf(floats, "Ingest").responseDeserialize(
                Buffer.from(toBinary(IngestSummarySchema, summary)),
              ) as Summary,
            fromConnect,
          );
        reply.catch(() => {});
        return { ...sending, reply };
      },
      session({ timeoutMs } = {}) {
        const { sending, messages, options } = begin(timeoutMs);
        const events = client.ingestSession(messages, options)[Symbol.asyncIterator]();
        const next = async () => {
          const result = await events.next().catch(fromConnect);
          if (result.done === true) return undefined;
          const event = Buffer.from(toBinary(IngestEventSchema, result.value));
          return methodOf(floats, "IngestSession").responseDeserialize(event) as IngestEvent;
        };
        return { ...sending, next };
      },
      async call(rpc, { vector_store_id: vectorStoreId, ingest_id: ingestId }) {
        const method = rpc === "GetIngest" ? client.getIngest : client.abortIngest;
        const summary = await method({ vectorStoreId, ingestId }).catch(fromConnect);
        return methodOf(floats, rpc).responseDeserialize(
          Buffer.from(toBinary(IngestSummarySchema, summary)),
        ) as Summary;
      },
      cut: () => sessionManager.abort(),
      async [Symbol.asyncDispose]() {
        sessionManager.abort();
      },
    };
  },
};

/** A queue of messages from which the transport pulls. */
function queue() {
  const waiting: IngestMessage[] = [];
  let wake = Promise.withResolvers<void>();
  let isEnded = false;
  async function* messages() {
    for (;;) {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
        yield fromBinary(IngestRequestSchema, encode(floats, next));
      if (isEnded) return;
      await wake.promise;
      wake = Promise.withResolvers<void>();
    }
  }
  return {
    messages: messages(),
    async send(message: IngestMessage) {
      waiting.push(message);
      wake.resolve();
    },
    end() {
      isEnded = true;
      wake.resolve();
    },
  };
}
