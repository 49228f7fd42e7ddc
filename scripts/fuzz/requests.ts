import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import {
  getOption,
  hasOption,
  toBinary,
  toJson,
  type DescField,
  type DescMethod,
  type DescService,
  type Message,
} from "@bufbuild/protobuf";
import { http } from "../../gen/google/api/annotations_pb.ts";
import { IngestRequestSchema } from "../../gen/pgquiver/v1/ingest_pb.ts";
import { UploadFileRequestSchema } from "../../gen/pgquiver/v1/files_pb.ts";
import { writeMessage } from "../../src/wire/rest/json-writer.ts";
import { mutateRequest } from "./mutate.ts";
import type { HttpRequest } from "./request.ts";
import { randomMessage, type Source } from "./values.ts";

type Draft = Pick<HttpRequest, "verb" | "path" | "headers" | "body"> & { isJson?: boolean };
type Builder = (method: DescMethod, messages: Message[], source: Source) => Draft | undefined;

/** How a request is made in each protocol; undefined: the RPC cannot be called this way. */
const protocols = {
  REST: restRequest,
  gRPC: (method, messages, { random }) => framed(method, messages, "application/grpc", random.chance(0.1)),
  "gRPC-Web": (method, messages) => framed(method, messages, "application/grpc-web+proto", false),
  "Connect JSON": (method, messages) => connectRequest(method, messages, "json"),
  "Connect binary": (method, messages) => connectRequest(method, messages, "proto"),
  NDJSON: ndjsonRequest,
  multipart: multipartRequest,
} as const satisfies Record<string, Builder>;

const names = Object.keys(protocols) as (keyof typeof protocols)[];

/** The services of all generated files. */
export async function loadMethods(): Promise<DescMethod[]> {
  const directory = join(import.meta.dirname, "../../gen/pgquiver/v1");
  const files = (await readdir(directory)).filter((name) => name.endsWith("_pb.ts"));
  const modules = await Promise.all(
    files.map((name) => import(join(directory, name)) as Promise<Record<string, { kind?: string }>>),
  );
  const services = modules
    .flatMap((exported) => Object.values(exported))
    .filter(({ kind }) => kind === "service");
  return (services as DescService[]).flatMap(({ methods }) => methods);
}

/**
 * A request over a protocol drawn at random. `mutated` is the probability that the request has unusual values
 * or one to three mutations; the others are as a client would send them.
 */
export function randomRequest(
  methods: readonly DescMethod[],
  source: Omit<Source, "wildness">,
  mutated: number,
): HttpRequest {
  const { random } = source;
  const isMutated = random.chance(mutated);
  const full: Source = { ...source, wildness: isMutated ? random.pick([0, 0.02, 0.2]) : 0 };
  const protocol = random.pick(names);
  for (;;) {
    const method = random.pick(methods);
    const draft = protocols[protocol](method, randomMessages(method, full), full);
    if (draft === undefined) continue;
    const rpc = `${method.parent.name}/${method.name}`;
    const request = { isJson: false, ...draft, protocol, rpc, isMutated };
    for (let count = isMutated ? random.integer(0, 3) : 0; count > 0; count--) mutateRequest(request, random);
    return request;
  }
}

function randomMessages(method: DescMethod, source: Source): Message[] {
  const { random } = source;
  const isStream = method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming";
  if (!isStream) return [randomMessage(method.input, source)];
  if (random.chance(0.2))
    return Array.from({ length: random.integer(0, 4) }, () => randomMessage(method.input, source));
  // The order that the service expects: what opens the stream, what fills it, and for an ingest what ends it.
  const cases = method.input.oneofs[0]?.fields ?? [];
  const one = (field: DescField) => {
    for (;;) {
      const message = randomMessage(method.input, source);
      const choice = Object.values(message).find((value) => typeof value === "object") as { case?: string };
      if (choice.case === field.localName) return message;
    }
  };
  const [opens, fills, ends] = cases as [DescField, DescField, DescField?];
  const messages = [one(opens), ...Array.from({ length: random.integer(0, 3) }, () => one(fills))];
  messages.filter(isBatch).forEach((batch, index) => (batch.message.value.seq = BigInt(index + 1)));
  return ends === undefined ? messages : [...messages, one(ends)];
}

function isBatch(message: Message): message is Message & { message: { value: { seq: bigint } } } {
  return (message as { message?: { case?: string } }).message?.case === "batch";
}

function restRequest(method: DescMethod, [message]: Message[], { random }: Source): Draft | undefined {
  if (!hasOption(method, http) || method.methodKind === "client_streaming" || message === undefined)
    return undefined;
  const rule = getOption(method, http);
  const { pattern, body } = random.pick([rule, ...rule.additionalBindings]);
  if (pattern.case === undefined || pattern.case === "custom") return undefined;
  const json = writeMessage(method.input, message, random.pick(["numbers", "base64"]));
  const path = pattern.value.replace(/\{(\w+)\}/g, (_, field: string) => {
    const value = String(json[field]).slice(0, 500);
    delete json[field];
    // A lone surrogate cannot be written in a URL.
    return encodeURIComponent(value.toWellFormed());
  });
  const present = Object.entries(json).filter(([, value]) => value !== null && value !== "");
  const verb = pattern.case.toUpperCase();
  if (body === "") {
    const query = new URLSearchParams(
      present.map(([name, value]) => [name, JSON.stringify(value).replaceAll('"', "")] as [string, string]),
    );
    return {
      verb,
      path: query.size === 0 ? path : `${path}?${query.toString()}`,
      headers: {},
      body: Buffer.alloc(0),
    };
  }
  const value = body === "*" ? Object.fromEntries(present) : json[body];
  return {
    verb,
    path,
    headers: { "content-type": "application/json" },
    body: Buffer.from(JSON.stringify(value ?? {})),
    isJson: true,
  };
}

function framed(
  method: DescMethod,
  messages: Message[],
  type: string,
  isCompressed: boolean,
): Draft | undefined {
  const bytes = encode(method, messages, "proto");
  if (bytes === undefined) return undefined;
  const frames = bytes.map((part) => envelope(isCompressed ? gzipSync(part) : part, isCompressed ? 1 : 0));
  return {
    verb: "POST",
    path: `/${method.parent.typeName}/${method.name}`,
    headers: { "content-type": type, te: "trailers", ...(isCompressed && { "grpc-encoding": "gzip" }) },
    body: Buffer.concat(frames),
  };
}

function connectRequest(method: DescMethod, messages: Message[], form: "json" | "proto"): Draft | undefined {
  const bytes = encode(method, messages, form);
  if (bytes === undefined) return undefined;
  const isStream = method.methodKind !== "unary";
  return {
    verb: "POST",
    path: `/${method.parent.typeName}/${method.name}`,
    headers: {
      "content-type": `application/${isStream ? "connect+" : ""}${form}`,
      "connect-protocol-version": "1",
    },
    body: Buffer.concat(isStream ? bytes.map((part) => envelope(part, 0)) : bytes),
    isJson: form === "json" && !isStream,
  };
}

/** Undefined where a value has no form: a lone surrogate, or in JSON the unknown number of an enum. */
function encode(method: DescMethod, messages: Message[], form: "json" | "proto"): Uint8Array[] | undefined {
  try {
    return messages.map((message) =>
      form === "proto"
        ? toBinary(method.input, message)
        : Buffer.from(JSON.stringify(toJson(method.input, message))),
    );
  } catch {
    return undefined;
  }
}

function envelope(bytes: Uint8Array, flags: number): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flags;
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

function ndjsonRequest(method: DescMethod, messages: Message[], source: Source): Draft | undefined {
  if (method.input !== IngestRequestSchema || !hasOption(method, http)) return undefined;
  const { random, ids } = source;
  const rows = messages.flatMap((message) => {
    const { message: choice } = message as {
      message?: { case?: string; value?: { rows?: Message[] } };
    } as never as {
      message: { case?: string; value: { rows: Message[] } };
    };
    return choice.case === "batch" ? choice.value.rows : [];
  });
  const rowDesc = IngestRequestSchema.field.batch.message?.fields.find(
    ({ name }) => name === "rows",
  )?.message;
  if (rowDesc === undefined) return undefined;
  const lines = rows.map((row) =>
    JSON.stringify(writeMessage(rowDesc, row, random.pick(["numbers", "base64"]))),
  );
  const query = random.pick(["", "?mode=upsert", "?on_error=skip_row", "?atomicity=stream&dimensions=8"]);
  return {
    verb: random.pick(["POST", "PUT"]),
    path: `/v1/vector_stores/${ids.get("vector_store_id")}/embeddings/ingest${query}`,
    headers: { "content-type": "application/x-ndjson" },
    body: Buffer.from(lines.join(random.pick(["\n", "\r\n"]))),
  };
}

function multipartRequest(method: DescMethod, messages: Message[], { random }: Source): Draft | undefined {
  if (method.input !== UploadFileRequestSchema) return undefined;
  const data = encode(method, messages, "proto");
  if (data === undefined) return undefined;
  const name = random.pick([
    "a.txt",
    "b.pdf",
    "c.docx",
    "d.html",
    "e.xlsx",
    "",
    "../../x",
    'q"uote.md',
    "ü.json",
  ]);
  const purpose = random.pick(["assistants", "user_data", "vision"]);
  const parts = [
    `--edge\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n${purpose}\r\n`,
    `--edge\r\ncontent-disposition: form-data; name="file"; filename="${name}"\r\n\r\n`,
    Buffer.concat(data),
    "\r\n--edge--\r\n",
  ].map((part) => (typeof part === "string" ? Buffer.from(part) : part));
  return {
    verb: "POST",
    path: "/v1/files",
    headers: { "content-type": "multipart/form-data; boundary=edge" },
    body: Buffer.concat(parts),
  };
}
