import type { DescField, DescMessage } from "@bufbuild/protobuf";
import type { Schema } from "./schema.ts";
import { saysRequired, type Schemas } from "./schemas.ts";

/** Describes a field of a request as a part of the URL. */
export function describeParameter(field: DescField, where: "path" | "query", schemas: Schemas): Schema {
  const { description, ...schema } = schemas.field(field, "request");
  const isObject = field.fieldKind === "message";
  return {
    name: field.name,
    in: where,
    ...((where === "path" || saysRequired(field)) && { required: true }),
    ...(description !== undefined && { description }),
    // A message's field is written as `effective_at[gt]=1`.
    ...(isObject && { style: "deepObject", explode: true }),
    schema: isObject
      ? inQuery(field.message, schemas)
      : where === "path"
        ? inPath(schema)
        : withoutNull(schema),
  };
}

/** A part of a path is one segment of it, which has a character at least. */
function inPath({ pattern }: Schema): Schema {
  return { type: "string", minLength: 1, ...(pattern !== undefined && { pattern }) };
}

function inQuery({ fields }: DescMessage, schemas: Schemas): Schema {
  const properties = fields.map((field) => [field.name, withoutNull(schemas.field(field, "request"))]);
  return {
    type: "object",
    properties: Object.fromEntries(properties) as Schema,
    additionalProperties: false,
  };
}

/** In a URL there is no null. */
function withoutNull(schema: Schema): Schema {
  const { type, anyOf } = schema;
  if (Array.isArray(type)) return { ...schema, type: type[0] };
  if (!Array.isArray(anyOf)) return schema;
  const some = (anyOf as Schema[]).filter((one) => one["type"] !== "null");
  return some.length === 1 ? (some[0] as Schema) : { anyOf: some };
}
