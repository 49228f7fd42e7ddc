import {
  create,
  fromJson,
  ScalarType,
  type DescEnum,
  type DescField,
  type DescMessage,
  type JsonValue,
  type Message,
} from "@bufbuild/protobuf";
import { FieldMaskSchema, ValueSchema } from "@bufbuild/protobuf/wkt";
import { mapInTurns } from "../../api/concurrency/bulk-turns.ts";
import { invalidArgument, type Reason } from "../../errors.ts";

/**
 * Converts a JSON value to the value of a message field. `path`: name of the field for errors; `depth`: level
 * of nesting, from 1.
 */
type Reader = (value: unknown, path: string, depth: number) => unknown;

/** Maximum nesting of messages and JSON values, which is also the limit of protobuf's decoders. */
const DEPTH_MAX = 100;

interface FieldReader {
  read: Reader;
  assign: (message: Record<string, unknown>, value: unknown) => void;
}

const readers = new WeakMap<DescMessage, Map<string, FieldReader>>();

/**
 * Converts OpenAI's JSON to a request message: names in snake_case, 64-bit integers as numbers, enum values
 * as lower-case words, a scalar in place of a list with one item, `repeated float` as numbers or as base64 of
 * little-endian float32, and null like an absent key. Throws INVALID_ARGUMENT with the field's path for
 * unknown keys, wrong types and numbers out of range. An `update_mask` is not read from the body: it is made
 * of the body's keys, those with null included.
 */
export function readMessage(desc: DescMessage, json: unknown, path = "", depth = 1): Message {
  if (!isObject(json)) throw wrongType(path || "body", "an object", json);
  checkDepth(path, depth);
  const fields = fieldReaders(desc);
  const message = create(desc) as Message & Record<string, unknown>;
  for (const key of Object.keys(json)) {
    const field = fields.get(key);
    const fieldPath = path === "" ? key : `${path}.${key}`;
    if (field === undefined) {
      throw invalidArgument(
        shorten(fieldPath),
        `Unknown parameter: '${shorten(fieldPath)}'.`,
        "UNKNOWN_PARAMETER",
      );
    }
    const value = json[key];
    if (value !== null) field.assign(message, field.read(value, fieldPath, depth));
  }
  const mask = desc.fields.find((field) => field.message?.typeName === FieldMaskSchema.typeName);
  if (mask !== undefined) message[mask.localName] = create(FieldMaskSchema, { paths: Object.keys(json) });
  return message;
}

/**
 * As `readMessage`, of a request that may be long: the event loop turns between the messages of its lists. Faults elsewhere are
 * found first.
 */
export async function readLongMessage(desc: DescMessage, json: unknown): Promise<Message> {
  if (!isObject(json)) return readMessage(desc, json);
  const lists = desc.fields.flatMap((field) => {
    const list = json[field.name];
    if (field.fieldKind !== "list" || field.listKind !== "message" || !Array.isArray(list)) return [];
    return [{ field, list: list as unknown[] }];
  });
  if (lists.length === 0) return readMessage(desc, json);
  const emptied = Object.fromEntries(lists.map(({ field }) => [field.name, []]));
  const message = readMessage(desc, { ...json, ...emptied }) as Message & Record<string, unknown>;
  for (const { field, list } of lists) {
    const read = messageReader(field.message);
    message[field.localName] = await mapInTurns(list, (element, index) => {
      const path = `${field.name}[${index}]`;
      if (element === null) throw wrongType(path, "a value", element);
      return read(element, path, 1);
    });
  }
  return message;
}

function checkDepth(path: string, depth: number): void {
  if (depth <= DEPTH_MAX) return;
  const [field = ""] = path.split(/[.[]/, 1);
  throw invalidArgument(field, `Invalid '${field}': nested deeper than ${DEPTH_MAX} levels.`);
}

function checkValueDepth(value: unknown, path: string, depth: number): void {
  checkDepth(path, depth);
  if (typeof value !== "object" || value === null) return;
  for (const child of Object.values(value)) checkValueDepth(child, path, depth + 1);
}

/**
 * Converts the text of a query parameter or form part to the JSON value that its field expects: number,
 * boolean or text. Other text is returned unchanged, for `readMessage` to refuse.
 */
export function parameterValue(desc: DescMessage, name: string, text: string): unknown {
  const field = desc.fields.find((candidate) => candidate.name === name);
  if (field?.fieldKind !== "scalar") return text;
  if (field.scalar === ScalarType.BOOL) return text === "true" ? true : text === "false" ? false : text;
  if (field.scalar === ScalarType.STRING || field.scalar === ScalarType.BYTES) return text;
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

function fieldReaders(desc: DescMessage): Map<string, FieldReader> {
  let fields = readers.get(desc);
  if (fields === undefined) {
    fields = new Map();
    readers.set(desc, fields);
    for (const field of desc.fields) {
      if (field.message?.typeName === FieldMaskSchema.typeName) continue;
      fields.set(field.name, { read: fieldReader(field), assign: assigner(field) });
    }
  }
  return fields;
}

function assigner(field: DescField): FieldReader["assign"] {
  const name = field.localName;
  const group = field.oneof?.localName;
  if (group === undefined) return (message, value) => void (message[name] = value);
  return (message, value) => {
    message[group] = { case: name, value };
  };
}

function fieldReader(field: DescField): Reader {
  switch (field.fieldKind) {
    case "scalar":
      return scalarReader(field.scalar);
    case "enum":
      return enumReader(field.enum);
    case "message":
      return messageReader(field.message);
    case "map":
      return mapReader(field.mapKind === "scalar" ? scalarReader(field.scalar) : unsupported(field));
    case "list":
      switch (field.listKind) {
        case "scalar":
          return field.scalar === ScalarType.FLOAT
            ? readFloats
            : listReader(scalarReader(field.scalar), true);
        case "enum":
          return listReader(enumReader(field.enum), true);
        case "message":
          return listReader(messageReader(field.message), false);
      }
  }
}

function messageReader(desc: DescMessage): Reader {
  if (desc.typeName === "google.protobuf.Struct") {
    return (value, path) => {
      if (!isObject(value)) throw wrongType(path, "an object", value);
      return value;
    };
  }
  if (desc.typeName === ValueSchema.typeName) {
    return (value, path, depth) => {
      checkValueDepth(value, path, depth + 1);
      return fromJson(ValueSchema, value as JsonValue);
    };
  }
  return (value, path, depth) => readMessage(desc, value, path, depth + 1);
}

function listReader(item: Reader, acceptsOne: boolean): Reader {
  return (value, path, depth) => {
    if (Array.isArray(value)) {
      return value.map((element: unknown, index) => {
        if (element === null) throw wrongType(`${path}[${index}]`, "a value", element);
        return item(element, `${path}[${index}]`, depth);
      });
    }
    if (acceptsOne && typeof value !== "object") return [item(value, path, depth)];
    throw wrongType(path, "an array", value);
  };
}

function mapReader(item: Reader): Reader {
  return (value, path, depth) => {
    if (!isObject(value)) throw wrongType(path, "an object", value);
    const map: Record<string, unknown> = {};
    for (const [key, element] of Object.entries(value)) {
      // An assignment to this key would set the object's prototype and lose the pair.
      if (key === "__proto__")
        throw invalidArgument(path, `Invalid '${path}': the key '__proto__' is not allowed.`);
      if (!key.isWellFormed()) {
        throw invalidArgument(
          path,
          `Invalid '${path}': a key has a lone surrogate and is not valid Unicode.`,
        );
      }
      map[key] = item(element, `${path}.${key}`, depth);
    }
    return map;
  };
}

/**
 * Reads a vector as a Float32Array, which stands in for protobuf-es' `number[]` because vectors are only
 * read. The service checks that the numbers are finite.
 */
function readFloats(value: unknown, path: string): Float32Array {
  if (typeof value === "string") return decodeFloats(value, path);
  if (!Array.isArray(value)) throw wrongType(path, "an array of numbers or base64", value);
  const floats = new Float32Array(value.length);
  for (let index = 0; index < value.length; index++) {
    const element: unknown = value[index];
    if (typeof element !== "number") throw wrongType(`${path}[${index}]`, "a number", element);
    floats[index] = element;
  }
  return floats;
}

function decodeFloats(text: string, path: string): Float32Array {
  const bytes = decodeBase64(text, path);
  if (bytes.length % 4 !== 0) {
    throw invalidArgument(
      path,
      `Invalid '${path}': ${bytes.length} bytes are not a whole number of float32 values.`,
    );
  }
  return new Float32Array(new Uint8Array(bytes).buffer);
}

function decodeBase64(text: string, path: string): Buffer {
  const bytes = Buffer.from(text, "base64");
  // Node's decoder ignores invalid characters. Encoding again reveals them, ten times faster than a regular
  // expression.
  if (bytes.toString("base64") !== text) throw invalidArgument(path, `Invalid '${path}': expected base64.`);
  return bytes;
}

function enumReader(desc: DescEnum): Reader {
  const prefix = desc.sharedPrefix?.length ?? 0;
  const words = new Map(
    desc.values
      .filter((value) => value.number !== 0)
      .map((value) => [value.name.slice(prefix).toLowerCase(), value.number]),
  );
  const supported = [...words.keys()].map((word) => `'${word}'`).join(", ");
  return (value, path) => {
    if (typeof value !== "string") throw wrongType(path, "a string", value);
    const number = words.get(value);
    if (number === undefined) {
      throw invalidArgument(path, `Invalid value: '${shorten(value)}'. Supported values are: ${supported}.`);
    }
    return number;
  };
}

function scalarReader(type: ScalarType): Reader {
  switch (type) {
    case ScalarType.STRING:
      return readString;
    case ScalarType.BOOL:
      return (value, path) => {
        if (typeof value !== "boolean") throw wrongType(path, "a boolean", value);
        return value;
      };
    case ScalarType.BYTES:
      return (value, path) => decodeBase64(readString(value, path), path);
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return (value, path) => {
        if (typeof value !== "number") throw wrongType(path, "a number", value);
        if (!Number.isFinite(value)) throw notFinite(path);
        return value;
      };
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return (value, path) => readInteger(value, path, -(2 ** 31), 2 ** 31 - 1);
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return (value, path) => readInteger(value, path, 0, 2 ** 32 - 1);
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return (value, path) => BigInt(readInteger(value, path, 0, Number.MAX_SAFE_INTEGER));
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return (value, path) =>
        BigInt(readInteger(value, path, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER));
  }
}

function readString(value: unknown, path: string): string {
  if (typeof value !== "string") throw wrongType(path, "a string", value);
  if (!value.isWellFormed()) {
    throw invalidArgument(path, `Invalid '${path}': the text has a lone surrogate and is not valid Unicode.`);
  }
  return value;
}

function readInteger(value: unknown, path: string, min: number, max: number): number {
  if (typeof value !== "number" || !Number.isInteger(value)) throw wrongType(path, "an integer", value);
  if (value < min) throw outOfRange(path, "below minimum", `>= ${min}`, value, "INTEGER_BELOW_MIN_VALUE");
  if (value > max) throw outOfRange(path, "above maximum", `<= ${max}`, value, "INTEGER_ABOVE_MAX_VALUE");
  return value;
}

function outOfRange(path: string, side: string, expected: string, got: number, reason: Reason) {
  return invalidArgument(
    path,
    `Invalid '${path}': integer ${side} value. Expected a value ${expected}, but got ${got} instead.`,
    reason,
  );
}

function notFinite(path: string) {
  return invalidArgument(path, `Invalid '${path}': expected a finite number within the range of float32.`);
}

function wrongType(path: string, expected: string, got: unknown) {
  const shown = shorten(path);
  return invalidArgument(
    shown,
    `Invalid type for '${shown}': expected ${expected}, but got ${nameType(got)} instead.`,
    "INVALID_TYPE",
  );
}

function nameType(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "number") return Number.isInteger(value) ? "an integer" : "a decimal number";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/** Whether a value is a JSON object. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Shortens a caller's text to at most 100 characters, for error messages. */
function shorten(text: string): string {
  return text.length <= 100 ? text : `${text.slice(0, 97)}...`;
}

function unsupported(field: DescField): never {
  throw new Error(`${field.toString()}: this kind of field has no JSON form yet`);
}
