/** The client's view of the service: message types, encoding, and classification of errors. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { status, type ServiceError } from "@grpc/grpc-js";
import { fromJSON, loadSync, type MessageTypeDefinition, type ServiceDefinition } from "@grpc/proto-loader";

/** The fields of `pgquiver.v1.IngestEvent` that this client uses. */
export type IngestEvent =
  | { event: "opened"; opened: { resume_after_seq: number } }
  | { event: "committed"; committed: { through_seq: number; errors: RowError[] } }
  | { event: "draining" }
  | { event: "summary"; summary: Summary };

/** Why a row was refused; `index` is the row's position in batch `seq`, from 0. */
export interface RowError {
  seq: number;
  index: number;
  id: string;
  field: string;
  message: string;
}

/** The totals of the whole ingest. */
export interface Summary {
  through_seq: number;
  rows_written: number;
  rows_skipped: number;
  rows_rejected: number;
  errors: RowError[];
}

const ROOT = join(import.meta.dirname, "../..");
const EMBEDDINGS = "pgquiver/v1/embeddings.proto";
const types = loadProtos();

/**
 * Loads the protos, with the type of vectors changed to `bytes`. A packed `repeated float` has the same wire
 * format as `bytes` of little-endian float32 with the same field number, but the library copies `bytes` as a
 * block instead of encoding 1,536 numbers one by one.
 */
function loadProtos() {
  const directory = mkdtempSync(join(tmpdir(), "ingest-"));
  try {
    const proto = readFileSync(join(ROOT, "proto", EMBEDDINGS), "utf8");
    mkdirSync(join(directory, "pgquiver/v1"), { recursive: true });
    writeFileSync(
      join(directory, EMBEDDINGS),
      proto.replace(/repeated float embedding = 3 \[.*\];/, "bytes embedding = 3;"),
    );
    return loadSync(["pgquiver/v1/ingest.proto", "google/rpc/error_details.proto"], {
      // protobufjs, a dependency of proto-loader, contains the protos of google/api.
      includeDirs: [directory, join(ROOT, "proto"), join(ROOT, "node_modules/protobufjs")],
      keepCase: true,
      longs: Number,
      enums: String,
      defaults: true,
      oneofs: true,
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

type Method = ServiceDefinition[string];
const session = (types["pgquiver.v1.IngestService"] as ServiceDefinition)["IngestSession"] as Method;

/** The path of the RPC IngestSession. */
export const sessionPath = session.path;

/** Encodes an `IngestRequest`: `{open}`, `{batch}` or `{finish}`. */
export const encodeRequest: (request: object) => Buffer = session.requestSerialize;

/** Decodes an `IngestEvent`. */
export const decodeEvent = session.responseDeserialize as (bytes: Buffer) => IngestEvent;

/** google.rpc.Status: the details of an error, in the trailer `grpc-status-details-bin`. */
const { Status } = fromJSON({
  nested: {
    Status: {
      fields: { message: { type: "string", id: 2 }, details: { rule: "repeated", type: "Any", id: 3 } },
    },
    Any: { fields: { typeUrl: { type: "string", id: 1 }, value: { type: "bytes", id: 2 } } },
  },
}) as { Status: MessageTypeDefinition<object, Details> };
interface Details {
  message?: string;
  details?: { typeUrl: string; value: Buffer }[];
}
const RetryInfo = types["google.rpc.RetryInfo"] as MessageTypeDefinition<
  object,
  { retry_delay: { seconds: number; nanos: number } }
>;

/**
 * Codes of transient errors: what a client sees, also through a proxy, when a connection or an instance ends.
 */
const TRANSIENT: (number | undefined)[] = [
  status.UNAVAILABLE,
  // Another stream has advanced the ingest: probably our own previous one, whose end the service noticed
  // later.
  status.ABORTED,
  status.CANCELLED,
  status.INTERNAL,
  status.DEADLINE_EXCEEDED,
  status.UNKNOWN,
];

/** Returns an error's code and message, whether a retry can help, and the minimum wait before a retry. */
export function describe(error: unknown) {
  const { code, details, message, metadata } = error as Partial<ServiceError>;
  const [bytes] = metadata?.get("grpc-status-details-bin") ?? [];
  const known = bytes === undefined ? undefined : Status.deserialize(bytes as Buffer);
  const retry = known?.details?.find(({ typeUrl }) => typeUrl.endsWith("/google.rpc.RetryInfo"));
  const delay = retry === undefined ? undefined : RetryInfo.deserialize(retry.value).retry_delay;
  return {
    code,
    message: known?.message ?? details ?? message,
    isTransient: TRANSIENT.includes(code) || delay !== undefined,
    retryAfterMs: delay === undefined ? 0 : delay.seconds * 1000 + delay.nanos / 1e6,
  };
}
