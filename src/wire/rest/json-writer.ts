import {
  ScalarType,
  toJson,
  type DescEnum,
  type DescField,
  type DescMessage,
  type Message,
} from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { mapInTurns } from "../../api/concurrency/bulk-turns.ts";

/** Encoding of vectors: arrays of numbers, or base64 of little-endian float32. */
export type VectorForm = "numbers" | "base64";

/** Converts the value of a message field to JSON. */
type Writer = (value: unknown, form: VectorForm) => unknown;
type FieldWriter = (
  message: Record<string, unknown>,
  json: Record<string, unknown>,
  form: VectorForm,
) => void;

const writers = new WeakMap<DescMessage, FieldWriter[]>();

/**
 * Converts a reply message to OpenAI's JSON: names in snake_case, 64-bit integers as numbers, enum values as
 * lower-case words, unset fields as null; empty lists, zeros and false are written. A `repeated float` is a
 * vector: an empty vector is null.
 */
export function writeMessage(
  desc: DescMessage,
  message: Message,
  form: VectorForm = "numbers",
): Record<string, unknown> {
  let fields = writers.get(desc);
  if (fields === undefined) {
    fields = [];
    writers.set(desc, fields);
    for (const field of desc.fields) fields.push(fieldWriter(field));
  }
  const json: Record<string, unknown> = {};
  for (const write of fields) write(message as unknown as Record<string, unknown>, json, form);
  return json;
}

/** As `writeMessage`, of a reply that may be long: the event loop turns between the messages of its list `data`. */
export async function writeLongMessage(
  desc: DescMessage,
  message: Message,
  form: VectorForm = "numbers",
): Promise<Record<string, unknown>> {
  const field = desc.field["data"];
  if (field?.fieldKind !== "list" || field.listKind !== "message") return writeMessage(desc, message, form);
  const { data, ...rest } = message as Message & { data: Message[] };
  const json = writeMessage(desc, { ...rest, data: [] } as Message, form);
  json["data"] = await mapInTurns(data, (item) => writeMessage(field.message, item, form));
  return json;
}

function fieldWriter(field: DescField): FieldWriter {
  const { name, localName } = field;
  if (field.oneof !== undefined) {
    const group = field.oneof.localName;
    const write = valueWriter(field);
    return (message, json, form) => {
      const choice = message[group] as { case?: string; value?: unknown };
      if (choice.case === localName) json[name] = write(choice.value, form);
    };
  }
  const write = valueWriter(field);
  if (field.fieldKind === "list") {
    const isVector = field.listKind === "scalar" && field.scalar === ScalarType.FLOAT;
    return (message, json, form) => {
      const list = message[localName] as unknown[];
      json[name] = isVector
        ? writeVector(list as ArrayLike<number>, form)
        : list.map((item) => write(item, form));
    };
  }
  if (field.fieldKind === "map") {
    return (message, json, form) => {
      const entries = Object.entries(message[localName] as Record<string, unknown>);
      json[name] = Object.fromEntries(entries.map(([key, value]) => [key, write(value, form)]));
    };
  }
  return (message, json, form) => {
    const value = message[localName];
    json[name] = value === undefined ? null : write(value, form);
  };
}

function writeVector(list: ArrayLike<number>, form: VectorForm): unknown {
  if (list.length === 0) return null;
  if (form === "numbers") return Array.isArray(list) ? list : toArray(list);
  const floats = list instanceof Float32Array ? list : new Float32Array(list);
  return Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength).toString("base64");
}

/** Converts to an array of numbers, in a third of the time of `Array.from`. */
function toArray(list: ArrayLike<number>): number[] {
  const numbers: number[] = [];
  for (let index = 0; index < list.length; index++) numbers.push(list[index] as number);
  return numbers;
}

function valueWriter(field: DescField): Writer {
  if (field.message !== undefined) return messageWriter(field.message);
  if (field.enum !== undefined) return enumWriter(field.enum);
  switch (field.scalar) {
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return Number;
    case ScalarType.BYTES:
      return (value) => Buffer.from(value as Uint8Array).toString("base64");
    default:
      return (value) => value;
  }
}

function messageWriter(desc: DescMessage): Writer {
  // protobuf-es represents a Struct field as a plain object.
  if (desc.typeName === "google.protobuf.Struct") return (value) => value;
  if (desc.typeName === ValueSchema.typeName) return (value) => toJson(ValueSchema, value as never);
  return (value, form) => writeMessage(desc, value as Message, form);
}

function enumWriter(desc: DescEnum): Writer {
  const prefix = desc.sharedPrefix?.length ?? 0;
  const words = new Map(desc.values.map((value) => [value.number, value.name.slice(prefix).toLowerCase()]));
  return (value) => words.get(value as number) ?? null;
}
