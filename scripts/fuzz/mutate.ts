import type { JsonValue } from "@bufbuild/protobuf";
import type { Random } from "../crash/random.ts";
import type { HttpRequest } from "./request.ts";
import { EDGE_NUMBERS, EDGE_TEXTS } from "./values.ts";

/** Headers that change how a body is read, how long it may take, or what is sent back. */
const HEADERS: readonly (readonly [name: string, values: readonly string[]])[] = [
  [
    "content-type",
    [
      "",
      "text/plain",
      "application/json; charset=utf-16",
      "application/grpc+json",
      "*/*",
      "multipart/form-data",
    ],
  ],
  ["content-encoding", ["gzip", "br", "deflate", "identity", "gzip, gzip", "x"]],
  ["connect-content-encoding", ["gzip", "br", "x"]],
  ["grpc-encoding", ["gzip", "deflate", "identity", "x"]],
  ["accept-encoding", ["gzip", "br", "identity;q=0", "x"]],
  ["grpc-timeout", ["0n", "1n", "99999999H", "-1S", "1", "1x", "100m", "10S"]],
  ["connect-timeout-ms", ["0", "-1", "99999999999999", "x", "100", "10000"]],
  ["connect-protocol-version", ["", "0", "2"]],
  ["idempotency-key", ["", "k", "k".repeat(300), "\u00e9"]],
  ["range", ["bytes=0-0", "bytes=5-2", "bytes=-1", "bytes=0-1,3-4", "bytes=99999999999999999-", "x"]],
  ["expect", ["100-continue", "x"]],
  ["accept", ["", "text/event-stream", "x/y;q=z"]],
  ["x-request-id", ["", "x".repeat(3_000), "a b"]],
  ["x-http-method-override", ["DELETE"]],
  ["authorization", ["", "Bearer", "Basic eDp5", "Bearer x"]],
];

const PATH_PARTS = ["%00", "%2e%2e", "..", "%zz", "%F0%9F%A6%8A", "", "a".repeat(300), "*", ";", "%2f"];
const QUERIES = [
  "limit=-1",
  "limit=1e9",
  "limit=1&limit=2",
  "order=up",
  "after=%00",
  "x[y]=1",
  "&&=",
  "%zz=%zz",
  "before=row-1",
];

/** Changes one thing about a request in place: its path, its headers, its JSON, or its bytes. */
export function mutateRequest(request: HttpRequest, random: Random): void {
  const kind = random.integer(0, 9);
  if (kind === 0) request.path = mutatePath(request.path, random);
  else if (kind <= 2) mutateHeaders(request.headers, random);
  else if (kind === 3)
    request.verb = random.pick(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]);
  else if (kind <= 6 && request.isJson) request.body = mutateJson(request.body, random);
  else request.body = mutateBytes(request.body, random);
}

function mutatePath(path: string, random: Random): string {
  const [route = "", query] = path.split("?", 2);
  if (random.chance(0.4)) return `${path}${query === undefined ? "?" : "&"}${random.pick(QUERIES)}`;
  const parts = route.split("/");
  parts[random.integer(1, parts.length - 1)] = random.pick(PATH_PARTS);
  return `${parts.join("/")}${query === undefined ? "" : `?${query}`}`;
}

function mutateHeaders(headers: Record<string, string>, random: Random): void {
  const names = Object.keys(headers);
  if (names.length > 0 && random.chance(0.3)) {
    delete headers[random.pick(names)];
    return;
  }
  const [name, values] = random.pick(HEADERS);
  headers[name] = random.pick(values);
}

/** Changes one value of a JSON text, or its syntax. */
function mutateJson(body: Buffer, random: Random): Buffer {
  const text = body.toString();
  if (random.chance(0.1)) return Buffer.from("[".repeat(random.pick([10, 101, 5_000])) + text);
  if (random.chance(0.1)) return Buffer.from(text.replace("{", '{"unknown":1,'));
  if (random.chance(0.1)) return Buffer.from(text.replace(/"(\w+)":/, '"$1":null,"$1":'));
  if (random.chance(0.1))
    return Buffer.from(text.replace(/\d+/, random.pick(["1e400", "-0", "01", "1e5", "0x10"])));
  try {
    return Buffer.from(JSON.stringify(mutateValue(JSON.parse(text) as JsonValue, random)));
  } catch {
    // An earlier mutation has broken the syntax.
    return mutateBytes(body, random);
  }
}

function mutateValue(value: JsonValue, random: Random): JsonValue {
  const isLeaf = typeof value !== "object" || value === null || Object.keys(value).length === 0;
  if (isLeaf || random.chance(0.15)) {
    return random.pick<JsonValue>([
      null,
      [],
      {},
      [value],
      { a: value },
      true,
      random.pick(EDGE_TEXTS),
      random.pick(EDGE_NUMBERS),
    ]);
  }
  const copy = structuredClone(value) as Record<string, JsonValue>;
  const key = random.pick(Object.keys(copy));
  if (random.chance(0.15)) delete copy[key];
  else copy[key] = mutateValue(copy[key] as JsonValue, random);
  return copy;
}

/** Cuts, overwrites, doubles or inserts some bytes. */
export function mutateBytes(bytes: Buffer, random: Random): Buffer {
  if (bytes.length === 0)
    return Buffer.from(random.pick(["{", "\0\0\0\0\0", "\0\xff\xff\xff\xff", "x"]), "latin1");
  const at = random.integer(0, bytes.length - 1);
  const rest = bytes.subarray(at);
  switch (random.integer(0, 4)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(0, random.integer(1, 20)), rest]);
    case 2:
      return Buffer.concat([bytes, rest]);
    default: {
      const copy = Buffer.from(bytes);
      for (let count = random.integer(1, 4); count > 0; count--)
        copy[random.integer(0, copy.length - 1)] = random.pick([
          0,
          1,
          0x7f,
          0x80,
          0xff,
          random.integer(0, 255),
        ]);
      return copy;
    }
  }
}
