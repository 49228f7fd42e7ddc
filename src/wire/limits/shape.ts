import { getOption, hasOption, ScalarType, type DescField, type DescMessage } from "@bufbuild/protobuf";
import { StructSchema } from "@bufbuild/protobuf/wkt";
import { max_items } from "../../../gen/pgquiver/v1/options_pb.ts";
import { invalidArgument } from "../../errors.ts";

/** How a field is counted. */
export type Counting =
  /** Not at all: it is one value. */
  | "none"
  /** A message; its fields are counted. */
  | "message"
  /** The items of a list, or the pairs of a map. */
  | "list"
  | "map"
  /** All values inside, at any depth: a field of type google.protobuf.Struct, Value or FieldMask. */
  | "values";

/** What the readers of `limits/` need to know of a field. */
export interface FieldShape {
  name: string;
  counting: Counting;
  /** Maximum number of items, pairs or values. */
  max: number;
  /** Wire size of a number in a packed list: 4, 8, 0 for varints; undefined: the items are not numbers. */
  itemBytes: number | undefined;
  /** The type of a message, of the messages in a list, or of a map's entries on the wire. */
  message: Shape | undefined;
  /** Whether JSON writes the field as an object with any keys: errors then speak of properties, not of items. */
  isObject: boolean;
  /** Index of the field's counter among those of its message. */
  slot: number;
  /** Whether the field is length-delimited on the wire, 32 or 64 bits long, or a varint. */
  wireType: number;
  /** Whether the field, or each item of a list, is a string, which has to be UTF-8. */
  isText: boolean;
}

/** What the readers of `limits/` need to know of a message. */
export interface Shape {
  /** By the field's name and by its JSON name. */
  byKey: ReadonlyMap<string, FieldShape>;
  byNumber: ReadonlyMap<number, FieldShape>;
  /** Number of counters: one for each field that is a message, a list or a map. */
  slots: number;
  /** The lists and maps that have a maximum. */
  counted: readonly FieldShape[];
}

const shapes = new WeakMap<DescMessage, Shape>();

/** Derives the shape of a message from its descriptor, once for each descriptor. */
export function shapeOf(desc: DescMessage): Shape {
  const known = shapes.get(desc);
  if (known !== undefined) return known;
  const byKey = new Map<string, FieldShape>();
  const byNumber = new Map<number, FieldShape>();
  const counted: FieldShape[] = [];
  const shape = { byKey, byNumber, slots: 0, counted };
  // Before its fields: messages contain themselves, as filters do.
  shapes.set(desc, shape);
  for (const field of desc.fields) {
    const fieldShape = describe(field, shape.slots);
    if (fieldShape.counting !== "none") shape.slots++;
    if (isMany(fieldShape) && fieldShape.max !== Infinity) counted.push(fieldShape);
    byKey.set(field.name, fieldShape);
    byKey.set(field.jsonName, fieldShape);
    byNumber.set(field.number, fieldShape);
  }
  return shape;
}

/** Whether a field is a list or a map. */
export function isMany({ counting }: FieldShape): boolean {
  return counting === "list" || counting === "map";
}

/** A field that leads to another, and the index of the item when the field is a list. */
export interface PathPart {
  field: FieldShape;
  index: number | undefined;
}

/** The name of a field in errors, such as `embeddings[3].metadata`; without `prefix` where it begins with that. */
export function fieldName(path: readonly PathPart[], { name }: FieldShape, prefix: string): string {
  const parts = path.map(({ field, index }) =>
    index === undefined ? field.name : `${field.name}[${index}]`,
  );
  const whole = [...parts, name].join(".");
  return whole.startsWith(prefix) ? whole.slice(prefix.length) : whole;
}

/** INVALID_ARGUMENT: a field has more than its maximum. Worded as in `api/checks.ts`, like OpenAI. */
export function countError({ isObject, max }: FieldShape, name: string, count: number, about = ""): Error {
  if (isObject) {
    const message = `Invalid '${name}': too many properties. Expected at most ${max}, but got ${about}${count} instead.`;
    return invalidArgument(name, message, "OBJECT_ABOVE_MAX_PROPERTIES");
  }
  const message = `Invalid '${name}': array too long. Expected an array with maximum length ${max}, but got an array with length ${about}${count} instead.`;
  return invalidArgument(name, message, "ARRAY_ABOVE_MAX_LENGTH");
}

function describe(field: DescField, slot: number): FieldShape {
  const message = messageOf(field);
  return {
    name: field.name,
    counting: countingOf(field),
    max: hasOption(field, max_items) ? getOption(field, max_items) : Infinity,
    itemBytes: itemBytesOf(field),
    message:
      field.fieldKind === "map" ? entryOf(field) : message === undefined ? undefined : shapeOf(message),
    isObject: field.fieldKind === "map" || message?.typeName === StructSchema.typeName,
    slot,
    wireType: wireTypeOf(field),
    isText: "scalar" in field && field.fieldKind !== "map" && field.scalar === ScalarType.STRING,
  };
}

/** An entry of a map is a message with two fields: `key` = 1 and `value` = 2. */
function entryOf(field: DescField & { fieldKind: "map" }): Shape {
  const plain = { max: Infinity, itemBytes: undefined, message: undefined, isObject: false, slot: 0 };
  const key: FieldShape = {
    ...plain,
    name: "key",
    counting: "none",
    wireType: wireTypeOfScalar(field.mapKey),
    isText: field.mapKey === ScalarType.STRING,
  };
  const value: FieldShape = {
    ...plain,
    name: "value",
    counting: field.mapKind === "message" ? "message" : "none",
    message: field.mapKind === "message" ? shapeOf(field.message) : undefined,
    wireType: field.mapKind === "scalar" ? wireTypeOfScalar(field.scalar) : field.mapKind === "enum" ? 0 : 2,
    isText: field.mapKind === "scalar" && field.scalar === ScalarType.STRING,
  };
  return {
    byKey: new Map(),
    byNumber: new Map([
      [1, key],
      [2, value],
    ]),
    slots: 1,
    counted: [],
  };
}

function messageOf(field: DescField): DescMessage | undefined {
  return field.fieldKind === "scalar" || field.fieldKind === "enum" ? undefined : field.message;
}

function countingOf(field: DescField): Counting {
  if (field.fieldKind === "list" || field.fieldKind === "map") return field.fieldKind;
  if (field.fieldKind !== "message") return "none";
  // Only where the holder is ours: inside of a Struct the values are counted one by one.
  return hasOption(field, max_items) ? "values" : "message";
}

const LENGTH_DELIMITED = 2;

function wireTypeOf(field: DescField): number {
  switch (field.fieldKind) {
    case "message":
    case "map":
      return LENGTH_DELIMITED;
    case "enum":
      return 0;
    case "scalar":
      return wireTypeOfScalar(field.scalar);
    case "list":
      if (field.listKind === "message") return LENGTH_DELIMITED;
      return field.listKind === "enum" ? 0 : wireTypeOfScalar(field.scalar);
  }
}

function wireTypeOfScalar(type: ScalarType): number {
  switch (type) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return LENGTH_DELIMITED;
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return 1;
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return 5;
    default:
      return 0;
  }
}

function itemBytesOf(field: DescField): number | undefined {
  if (field.fieldKind !== "list" || field.listKind === "message") return undefined;
  const wireType = wireTypeOf(field);
  if (wireType === LENGTH_DELIMITED) return undefined;
  return wireType === 0 ? 0 : wireType === 1 ? 8 : 4;
}
