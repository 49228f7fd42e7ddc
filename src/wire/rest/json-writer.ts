import {
  ScalarType,
  toJson,
  type DescEnum,
  type DescField,
  type DescMessage,
  type Message,
} from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";

/** How vectors are written: arrays of numbers, or base64 of little-endian float32. */
export type VectorForm = "numbers" | "base64";

/** Turns the value of a message field into JSON. */
type Writer = (value: unknown, form: VectorForm) => unknown;
type FieldWriter = (
  message: Record<string, unknown>,
  json: Record<string, unknown>,
  form: VectorForm,
) => void;

const writers = new WeakMap<DescMessage, FieldWriter[]>();

/**
 * Writes a reply message in OpenAI's JSON dialect: snake_case names, 64-bit integers as numbers,
 * enums as lower-case words, `null` for what is unset, and empty lists, zeros and false present.
 * A `repeated float` is a vector, not a list: an empty one is null.
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

/** `Array.from` takes three times as long. */
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
  // protobuf-es keeps a Struct as the plain object it stands for.
  if (desc.typeName === "google.protobuf.Struct") return (value) => value;
  if (desc.typeName === ValueSchema.typeName) return (value) => toJson(ValueSchema, value as never);
  return (value, form) => writeMessage(desc, value as Message, form);
}

function enumWriter(desc: DescEnum): Writer {
  const prefix = desc.sharedPrefix?.length ?? 0;
  const words = new Map(desc.values.map((value) => [value.number, value.name.slice(prefix).toLowerCase()]));
  return (value) => words.get(value as number) ?? null;
}
