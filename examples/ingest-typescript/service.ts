/** The service as this client sees it: its messages, and what its errors mean. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { status, type ServiceError } from "@grpc/grpc-js";
import { fromJSON, loadSync, type MessageTypeDefinition, type ServiceDefinition } from "@grpc/proto-loader";

/** What the service tells, of `pgquiver.v1.IngestEvent`. */
export type IngestEvent =
  | { event: "opened"; opened: { resume_after_seq: number } }
  | { event: "committed"; committed: { through_seq: number; errors: RowError[] } }
  | { event: "draining" }
  | { event: "summary"; summary: Summary };

/** Why a row was refused: the `index`-th of batch `seq`, from 0. */
export interface RowError {
  seq: number;
  index: number;
  id: string;
  field: string;
  message: string;
}

/** What the whole ingest came to. */
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
 * Loads our protos, with the vectors as `bytes`. On the wire a packed `repeated float` is nothing but
 * its length and its values as little-endian float32, so `bytes` under the same field number is the
 * same message; but the library copies it whole instead of writing 1,536 numbers one by one.
 */
function loadProtos() {
  const directory = mkdtempSync(join(tmpdir(), "ingest-"));
  try {
    const proto = readFileSync(join(ROOT, "proto", EMBEDDINGS), "utf8");
    mkdirSync(join(directory, "pgquiver/v1"), { recursive: true });
    writeFileSync(
      join(directory, EMBEDDINGS),
      proto.replace("repeated float embedding = 3;", "bytes embedding = 3;"),
    );
    return loadSync(["pgquiver/v1/ingest.proto", "google/rpc/error_details.proto"], {
      // google/api comes with protobufjs, on which proto-loader depends.
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

/** Path of the call. */
export const sessionPath = session.path;

/** Bytes of an `IngestRequest`: `{open}`, `{batch}` or `{finish}`. */
export const encodeRequest: (request: object) => Buffer = session.requestSerialize;

/** An `IngestEvent` from its bytes. */
export const decodeEvent = session.responseDeserialize as (bytes: Buffer) => IngestEvent;

/** google.rpc.Status, which comes with an error as the trailer `grpc-status-details-bin`. */
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

/** How the end of a connection or of a service shows, with or without a proxy between. */
const TRANSIENT: (number | undefined)[] = [
  status.UNAVAILABLE,
  // The ingest has moved on: most likely by our own last stream, whose break we noticed first.
  status.ABORTED,
  status.CANCELLED,
  status.INTERNAL,
  status.DEADLINE_EXCEEDED,
  status.UNKNOWN,
];

/** Tells of any error what it is, whether another attempt can help, and the least time to wait before it. */
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
