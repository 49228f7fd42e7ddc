import { join } from "node:path";
import {
  Client as GrpcClient,
  credentials,
  Metadata,
  type ClientOptions,
  type ServiceError,
} from "@grpc/grpc-js";
import { fromJSON, loadSync, type MessageTypeDefinition, type ServiceDefinition } from "@grpc/proto-loader";
import {
  callError,
  headersOf,
  type CallError,
  type CallOptions,
  type Client,
  type Json,
  type Protocol,
} from "./client.ts";
import { findMethod, fromPlain, toPlainRequest, type WellKnownForms } from "./dialect.ts";

/** A gRPC client that can also send malformed messages. */
export interface RawGrpcClient extends Client {
  /** Calls an RPC with raw bytes as its request message. */
  readonly callBytes: (rpc: string, request: Buffer, options?: CallOptions) => Promise<Json>;
  /** Calls an RPC that streams its answers, which are protobufjs' plain objects with the names of enums' values. */
  readonly stream: (rpc: string, request: Json) => AsyncIterable<Json>;
}

interface RawGrpcProtocol extends Protocol {
  connect(server: { url: string; address: string }, options?: ClientOptions): RawGrpcClient;
}

/** gRPC by the most common library: grpc-js with protobufjs, which share no code with Connect. */
export const grpcByGrpcJs: RawGrpcProtocol = {
  name: "gRPC by grpc-js",
  connect({ address }, options) {
    const client = new GrpcClient(address, credentials.createInsecure(), options);
    return {
      call: (rpc, json = {}, options = {}) =>
        unary(client, rpc, requestOf(rpc, toPlainRequest(findMethod(rpc), json, forms)), options),
      callBytes: (rpc, request, options = {}) => unary(client, rpc, request, options),
      stream: (rpc, request) => {
        const { path, responseDeserialize } = definitionOf(rpc);
        return client.makeServerStreamRequest(
          path,
          (bytes: Buffer) => bytes,
          (bytes) => responseDeserialize(bytes) as Json,
          requestOf(rpc, request),
        );
      },
      async [Symbol.asyncDispose]() {
        client.close();
      },
    };
  },
};

const root = join(import.meta.dirname, "../../..");
const definitions = loadSync(
  [
    "vector_stores",
    "embeddings",
    "search",
    "models",
    "diagnostics",
    "vector_store_files",
    "indexes",
    "ingest",
    "access",
    "usage",
  ]
    .map((name) => `pgquiver/v1/${name}.proto`)
    .concat("google/rpc/error_details.proto"),
  {
    includeDirs: [join(root, "proto"), join(root, "node_modules/protobufjs")],
    keepCase: true,
    longs: Number,
    enums: String,
    defaults: true,
  },
);

/** google.rpc.Status, defined here because the repository has no proto file for it. */
const { Status } = fromJSON({
  nested: {
    Status: { fields: { details: { rule: "repeated", type: "Detail", id: 3 } } },
    Detail: { fields: { typeUrl: { type: "string", id: 1 }, value: { type: "bytes", id: 2 } } },
  },
}) as Record<string, MessageTypeDefinition<Json, { details?: { typeUrl: string; value: Buffer }[] }>>;

function definitionOf(rpc: string) {
  const [service = "", method = ""] = rpc.split("/");
  const definition = (definitions[`pgquiver.v1.${service}`] as ServiceDefinition)[method];
  if (definition === undefined) throw new Error(`no RPC ${rpc}`);
  return definition;
}

function requestOf(rpc: string, plain: Json): Buffer {
  return definitionOf(rpc).requestSerialize(plain);
}

function unary(client: GrpcClient, rpc: string, request: Buffer, options: CallOptions): Promise<Json> {
  const { path, responseDeserialize } = definitionOf(rpc);
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headersOf(options))) metadata.set(name, value);
  const deadline = options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs };
  let requestId: string | undefined;
  return new Promise((resolve, reject) => {
    const call = client.makeUnaryRequest(
      path,
      (bytes: Buffer) => bytes,
      (bytes) => responseDeserialize(bytes) as Json,
      request,
      metadata,
      deadline,
      (error, reply) => {
        // In a Trailers-Only response the request id is in the error's metadata.
        const refusedId = error?.metadata.get("x-request-id")[0]?.toString();
        if (error !== null) return reject(fromServiceError(error, requestId ?? refusedId));
        resolve(fromPlain(findMethod(rpc).output, reply as Json, forms));
      },
    );
    call.on("metadata", (headers) => {
      requestId = headers.get("x-request-id")[0]?.toString();
      options.onRequestId?.(requestId);
    });
    options.signal?.addEventListener("abort", () => call.cancel());
  });
}

function fromServiceError(error: ServiceError, requestId: string | undefined): CallError {
  const [status] = error.metadata.get("grpc-status-details-bin") as Buffer[];
  const details = status === undefined ? [] : (Status?.deserialize(status).details ?? []);
  const detail = details.find(({ typeUrl }) => typeUrl.endsWith("/google.rpc.ErrorInfo"));
  const ErrorInfo = definitions["google.rpc.ErrorInfo"] as MessageTypeDefinition<
    Json,
    { reason: string; metadata: Record<string, string> }
  >;
  const info = detail === undefined ? undefined : ErrorInfo.deserialize(detail.value);
  return callError(error.code, error.details, {
    reason: info?.reason ?? null,
    param: info?.metadata["param"] ?? null,
    requestId,
  });
}

/** protobufjs has no special JSON mapping for the well-known types: they are plain messages. */
const forms: WellKnownForms = {
  writeStruct,
  writeValue,
  writeMask: (paths) => ({ paths }),
  readStruct: (form) => readStruct(form as Struct),
  readValue: (form) => readValue(form as Value),
};

interface Struct {
  fields: Record<string, Value>;
}

interface Value {
  nullValue?: unknown;
  numberValue?: number;
  stringValue?: string;
  boolValue?: boolean;
  structValue?: Struct;
  listValue?: { values: Value[] };
}

function writeStruct(json: Json): Struct {
  return { fields: Object.fromEntries(Object.entries(json).map(([key, value]) => [key, writeValue(value)])) };
}

function writeValue(json: unknown): Value {
  if (json === null || json === undefined) return { nullValue: 0 };
  if (Array.isArray(json)) return { listValue: { values: json.map(writeValue) } };
  if (typeof json === "number") return { numberValue: json };
  if (typeof json === "string") return { stringValue: json };
  if (typeof json === "boolean") return { boolValue: json };
  return { structValue: writeStruct(json as Json) };
}

function readStruct({ fields }: Struct): Json {
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, readValue(value)]));
}

function readValue(value: Value): unknown {
  if (value.structValue !== undefined) return readStruct(value.structValue);
  if (value.listValue !== undefined) return value.listValue.values.map(readValue);
  return value.numberValue ?? value.stringValue ?? value.boolValue ?? null;
}
