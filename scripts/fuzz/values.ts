import {
  create,
  fromJson,
  ScalarType,
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescOneof,
  type JsonObject,
  type JsonValue,
  type Message,
} from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import type { Random } from "../crash/random.ts";
import { DIMENSIONS, type Ids } from "./known.ts";

/** What the messages of one request are drawn from. */
export interface Source {
  random: Random;
  ids: Ids;
  /** The probability that a value is taken from the edges of its type rather than from what is usual. */
  wildness: number;
}

/** Nested messages end at this depth. */
const DEPTH_MAX = 6;

const TEXTS = ["red fox", "a", "key", "Wo ist der Fuchs?", "text/plain", "vs_0123456789abcdef", "n", "row-1"];
/** Texts that have broken parsers, databases and logs before. */
export const EDGE_TEXTS = [
  "",
  " ",
  "\0",
  "\u0001",
  "\ud800",
  "'; drop table embeddings; --",
  "%00",
  "../../etc/passwd",
  "__proto__",
  "constructor",
  "NaN",
  "null",
  "x".repeat(65),
  "x".repeat(513),
  "x".repeat(70_000),
  "🦊".repeat(300),
  "\u202eabc\ufeff",
  "\r\nx-injected: 1",
];
export const EDGE_NUMBERS = [0, -1, 1, 2, 10, 50, 51, 100, 101, 2 ** 31 - 1, -(2 ** 31)];
const EDGE_FLOATS = [0, -0, 1e-45, 3.4e38, -3.4e38, 1e300, Number.NaN, Infinity, -Infinity, 0.5];

/** A random message: mostly what the service accepts, and by `wildness` what lies at the edges. */
export function randomMessage(desc: DescMessage, source: Source, depth = 0): Message {
  if (desc.typeName === ValueSchema.typeName) return fromJson(ValueSchema, randomJson(source, depth));
  if (desc.typeName === "pgquiver.v1.Filter" && !isWild(source))
    return create(desc, randomFilter(desc, source, depth) as never);
  const fields: Record<string, unknown> = {};
  for (const member of desc.members) {
    if (member.kind === "oneof") fields[member.localName] = randomChoice(member, source, depth);
    else if (isPresent(member, source, depth)) fields[member.localName] = randomField(member, source, depth);
  }
  return create(desc, fields as never);
}

function isWild({ random, wildness }: Source): boolean {
  return random.chance(wildness);
}

/** Ids of the path are nearly always there, and what is optional is less often there than not. */
function isPresent(field: DescField, { random }: Source, depth: number): boolean {
  if (field.name.endsWith("_id") || field.name === "embedding") return random.chance(0.97);
  if (field.message !== undefined && depth >= DEPTH_MAX) return false;
  return random.chance(
    field.name === "content" || field.name === "query" || field.name === "type" ? 0.9 : 0.3,
  );
}

function randomChoice(oneof: DescOneof, source: Source, depth: number): unknown {
  const field = source.random.pick(oneof.fields);
  return { case: field.localName, value: randomField(field, source, depth) };
}

function randomField(field: DescField, source: Source, depth: number): unknown {
  const { random } = source;
  if (field.fieldKind === "map") {
    const keys = Array.from({ length: random.integer(0, 3) }, () => randomText(source));
    return Object.fromEntries(keys.map((key) => [key, randomText(source)]));
  }
  if (field.fieldKind !== "list") return randomItem(field, source, depth);
  if (field.listKind === "scalar" && field.scalar === ScalarType.FLOAT) return randomVector(source);
  const length = isWild(source) ? random.pick([0, 1, 101, 600]) : random.integer(1, 3);
  return Array.from({ length }, () => randomItem(field, source, depth));
}

/** A value of a field, or one item of a list. */
function randomItem(field: DescField, source: Source, depth: number): unknown {
  if (field.message?.typeName === "google.protobuf.Struct") return randomObject(source, depth);
  if (field.message?.typeName === "google.protobuf.FieldMask")
    return { paths: field.parent.fields.map(({ name }) => name).filter(() => source.random.chance(0.3)) };
  if (field.message !== undefined) return randomMessage(field.message, source, depth + 1);
  if (field.enum !== undefined) return randomEnum(field.enum, source);
  return randomScalar(field.name, field.scalar ?? ScalarType.STRING, source);
}

function randomEnum(desc: DescEnum, source: Source): number {
  return isWild(source) ? source.random.pick([0, 99, -1]) : source.random.pick(desc.values.slice(1)).number;
}

function randomScalar(name: string, type: ScalarType, source: Source): unknown {
  const { random } = source;
  switch (type) {
    case ScalarType.STRING:
      return isWild(source) ? random.pick(EDGE_TEXTS) : randomWord(name, source);
    case ScalarType.BOOL:
      return random.chance(0.5);
    case ScalarType.BYTES:
      return randomBytes(source);
    case ScalarType.FLOAT:
    case ScalarType.DOUBLE:
      return isWild(source) ? random.pick(EDGE_FLOATS) : random.next();
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return isWild(source)
        ? random.pick([0n, -1n, 2n ** 53n, 2n ** 63n - 1n])
        : BigInt(random.integer(1, 3));
    default:
      return isWild(source) ? random.pick(EDGE_NUMBERS) : random.integer(1, 20);
  }
}

/** What is usual for a string field of this name. */
function randomWord(name: string, source: Source): string {
  const field = name.endsWith("file_ids")
    ? "file_id"
    : name === "after" || name === "before"
      ? "embedding_id"
      : name;
  const known = source.ids.get(field);
  if (known !== undefined) return known;
  if (name === "model") return "lexical";
  if (name === "purpose") return "assistants";
  if (name === "ingest_id") return `load-${source.random.integer(1, 50)}`;
  if (name === "id") return `made-${source.random.integer(1, 5_000)}`;
  return source.random.pick(TEXTS);
}

function randomText(source: Source): string {
  return source.random.pick(isWild(source) ? EDGE_TEXTS : TEXTS);
}

function randomBytes(source: Source): Uint8Array {
  const length = source.random.pick(isWild(source) ? [0, 1, 4_000, 40_000] : [16, 200]);
  return Uint8Array.from({ length }, () => source.random.integer(32, isWild(source) ? 255 : 126));
}

function randomVector(source: Source): number[] {
  const { random } = source;
  const length = isWild(source) ? random.pick([0, 1, 7, 9, 16_000, 16_001]) : DIMENSIONS;
  const vector = Array.from({ length }, () => random.next() - 0.5);
  if (length > 0 && isWild(source)) vector[random.integer(0, length - 1)] = random.pick(EDGE_FLOATS);
  return vector;
}

/** A filter whose operator, key and value fit together. */
function randomFilter(desc: DescMessage, source: Source, depth: number): Record<string, unknown> {
  const { random } = source;
  const type = depth >= DEPTH_MAX ? 1 : random.integer(1, 10);
  if (type >= 9) {
    const filters = Array.from({ length: random.integer(1, 3) }, () =>
      randomMessage(desc, source, depth + 1),
    );
    return { type, filters };
  }
  const value = () => random.pick<JsonValue>([1, 2.5, "red", true, -7]);
  const json = type >= 7 ? [value(), value()] : value();
  return { type, key: random.pick(["n", "colour", "a.b", "x y"]), value: fromJson(ValueSchema, json) };
}

function randomObject(source: Source, depth: number): JsonObject {
  const object: JsonObject = {};
  for (let count = source.random.integer(0, 3); count > 0; count--)
    object[randomText(source)] = isWild(source)
      ? randomJson(source, depth + 1)
      : source.random.pick<JsonValue>([1, "red", true, 2.5]);
  return object;
}

/** Any JSON value. */
export function randomJson(source: Source, depth: number): JsonValue {
  const { random } = source;
  const kind = random.integer(0, depth >= DEPTH_MAX ? 3 : 5);
  if (kind === 0) return random.pick([true, false, null]);
  if (kind === 1) return random.pick(EDGE_NUMBERS);
  if (kind <= 3) return randomText(source);
  if (kind === 4) return Array.from({ length: random.integer(0, 3) }, () => randomJson(source, depth + 1));
  return randomObject(source, depth + 1);
}
