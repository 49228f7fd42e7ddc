import { ScalarType, type DescEnum, type DescField, type DescMessage } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { getComments } from "@bufbuild/protoplugin";
import { exceptionsOf, extraProperties } from "./extra-properties.ts";
import type { Options } from "./options.ts";
import type { Direction, Schema } from "./schema.ts";

/** Schemas of messages, by the rules of src/wire/rest/json-reader.ts and json-writer.ts. */
export class Schemas {
  readonly options: Options;
  readonly #all = new Map<string, Schema>();

  constructor(options: Options) {
    this.options = options;
  }

  /** The schemas of all messages that were asked for, by name, in alphabetical order. */
  all(): Record<string, Schema> {
    return Object.fromEntries([...this.#all].toSorted(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** A reference to a message's schema. `isWithout`: fields that are not in the body, since the path has them. */
  refer(desc: DescMessage, direction: Direction, isWithout: readonly string[] = []): Schema {
    const isInput = direction === "request" && !desc.name.endsWith("Request");
    return this.#refer(desc, isInput ? `${desc.name}Input` : desc.name, direction, isWithout);
  }

  #refer(desc: DescMessage, name: string, direction: Direction, isWithout: readonly string[]): Schema {
    if (!this.#all.has(name)) {
      // Set before the fields are described, which may refer to the message itself.
      this.#all.set(name, {});
      const extras = name === itemName(desc) ? {} : extraProperties(desc, direction);
      this.#all.set(name, this.#describe(desc, direction, isWithout, extras));
    }
    return { $ref: `#/components/schemas/${name}` };
  }

  /** The schema of a field of a message that goes in a direction, with its comment. */
  field(field: DescField, direction: Direction): Schema {
    const schema = direction === "request" ? this.#request(field) : this.#reply(field);
    const description = commentOf(field);
    // Beside a reference other keywords are allowed in OpenAPI 3.1.
    return description === "" ? schema : { ...schema, description };
  }

  #describe(
    desc: DescMessage,
    direction: Direction,
    isWithout: readonly string[],
    extras: Record<string, Schema>,
  ): Schema {
    const { keywords, hidden } = exceptionsOf(desc);
    const fields = desc.fields.filter(
      ({ name, message }) =>
        ![...isWithout, ...hidden].includes(name) && message?.typeName !== "google.protobuf.FieldMask",
    );
    const required = fields.filter((field) => isRequired(field, direction)).map(({ name }) => name);
    return {
      type: "object",
      description: commentOf(desc),
      ...(required.length > 0 && { required }),
      properties: {
        ...Object.fromEntries(fields.map((field) => [field.name, this.field(field, direction)])),
        ...extras,
      },
      ...keywords,
      // Unknown parameters are refused; replies may have more fields in later versions.
      ...(direction === "request" && { additionalProperties: false }),
    };
  }

  #request(field: DescField): Schema {
    if (saysRequired(field) && field.fieldKind !== "list" && field.fieldKind !== "map")
      return this.#value(field, "request");
    const itemsMax = this.options.itemsMaxOf(field);
    const itemsMin = this.options.itemsMinOf(field);
    if (field.fieldKind === "map")
      return nullable({
        ...this.#map(field, "request"),
        ...(itemsMax !== undefined && { maxProperties: itemsMax }),
      });
    if (field.fieldKind !== "list") return nullable(this.#value(field, "request"));
    const bound = {
      ...(itemsMin !== undefined && { minItems: itemsMin }),
      ...(itemsMax !== undefined && { maxItems: itemsMax }),
    };
    if (isVector(field)) return { anyOf: [{ ...NUMBERS, ...bound }, BASE64, { type: "null" }] };
    const items = this.#value(field, "request");
    const list = { type: "array", items, ...bound };
    // One value stands for a list with one item.
    const forms = [
      list,
      ...(field.listKind === "message" ? [] : [items]),
      ...(saysRequired(field) ? [] : [{ type: "null" }]),
    ];
    return forms.length === 1 ? list : { anyOf: forms };
  }

  #reply(field: DescField): Schema {
    if (field.fieldKind === "map") return this.#map(field, "reply");
    if (field.fieldKind === "list")
      return isVector(field)
        ? { anyOf: [NUMBERS, BASE64, { type: "null" }] }
        : { type: "array", items: this.#value(field, "reply") };
    const value = this.#value(field, "reply");
    return isAlwaysSet(field) || field.oneof !== undefined ? value : nullable(value);
  }

  #map(field: DescField & { fieldKind: "map" }, direction: Direction): Schema {
    return { type: "object", additionalProperties: this.#value(field, direction) };
  }

  /** The schema of a field's value, or of one of its values. */
  #value(field: DescField, direction: Direction): Schema {
    if (field.enum) return enumSchema(field.enum);
    if (field.message) {
      if (field.message.typeName === "google.protobuf.Struct") return { type: "object" };
      if (field.message.typeName === "google.protobuf.Value") return {};
      // A request of a batch, whose store is the batch's.
      if (direction === "request" && field.message.name.endsWith("Request"))
        return this.#refer(field.message, itemName(field.message), direction, ["vector_store_id"]);
      return this.refer(field.message, direction);
    }
    const schema = scalarSchema(field.scalar as ScalarType);
    if (direction === "reply") return schema;
    // Protobuf has no other way to say that a text is missing.
    const isMissingEmpty = field.fieldKind === "scalar" && schema["type"] === "string" && saysRequired(field);
    return {
      ...schema,
      ...INTEGERS[String(schema["format"])],
      ...(isMissingEmpty && { minLength: 1 }),
      ...this.options.boundsOf(field),
    };
  }
}

/** The integers that requests can have, by format: those of 64 bits that JSON's numbers have exactly. */
const INTEGERS: Record<string, Schema> = {
  int32: { minimum: -(2 ** 31), maximum: 2 ** 31 - 1 },
  int64: { minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER },
};

/** The name of the schema of a request that is one of several in a batch. */
function itemName({ name }: DescMessage): string {
  return `${name}Item`;
}

const NUMBERS = { type: "array", items: { type: "number", format: "float" } };
const BASE64 = { type: "string", contentEncoding: "base64" };

function isVector(field: DescField): boolean {
  return field.fieldKind === "list" && field.listKind === "scalar" && field.scalar === ScalarType.FLOAT;
}

/** Whether a reply's field always has a value: proto3's fields without `optional`, other than messages. */
function isAlwaysSet(field: DescField): boolean {
  return field.presence !== FeatureSet_FieldPresence.EXPLICIT;
}

/** Replies have all fields but those of a oneof. */
function isRequired(field: DescField, direction: Direction): boolean {
  return direction === "reply" ? field.oneof === undefined : saysRequired(field);
}

/** Whether a field's comment says that a request must have it. */
export function saysRequired(field: DescField): boolean {
  return /(^|\s)Required\.(\s|$)/.test(commentOf(field));
}

function scalarSchema(type: ScalarType): Schema {
  switch (type) {
    case ScalarType.STRING:
      return { type: "string" };
    case ScalarType.BYTES:
      return BASE64;
    case ScalarType.BOOL:
      return { type: "boolean" };
    case ScalarType.DOUBLE:
      return { type: "number", format: "double" };
    case ScalarType.FLOAT:
      return { type: "number", format: "float" };
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return { type: "integer", format: "int32" };
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return { type: "integer", minimum: 0 };
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return { type: "integer", format: "int64", minimum: 0 };
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return { type: "integer", format: "int64" };
  }
}

/** The words of an enum: without the prefix that its values share, and without the value for "not given". */
function enumSchema(desc: DescEnum): Schema {
  const prefix = desc.sharedPrefix?.length ?? 0;
  const values = desc.values.filter(({ number }) => number !== 0);
  const words = values.map((value) => value.name.slice(prefix).toLowerCase());
  const lines = values.map((value, index) => `- \`${words[index]}\`: ${commentOf(value)}`);
  return { type: "string", enum: words, description: `${commentOf(desc)}\n\n${lines.join("\n")}` };
}

/** A schema that null satisfies as well. */
function nullable(schema: Schema): Schema {
  if (typeof schema["type"] === "string" && schema["enum"] === undefined)
    return { ...schema, type: [schema["type"], "null"] };
  // Any value, null included.
  return Object.keys(schema).length === 0 ? schema : { anyOf: [schema, { type: "null" }] };
}

/** The comment before an element of a proto file, as Markdown: a line break within a paragraph is a space. */
export function commentOf(desc: Parameters<typeof getComments>[0]): string {
  return (getComments(desc).leading ?? "")
    .replaceAll(/^ /gm, "")
    .trim()
    .replaceAll(/([^\n])\n(?![\n -])/g, "$1 ");
}
