import type { DescMessage } from "@bufbuild/protobuf";
import { invalidArgument } from "../../errors.ts";
import { countError, shapeOf } from "../limits/shape.ts";
import { parameterValue } from "./json-reader.ts";

type Json = Record<string, unknown>;

/**
 * Converts the parameters of a URL to the JSON that they stand for. A list is written as OpenAI's clients write it,
 * `ids[]=a&ids[]=b`, or `ids=a&ids=b`, and a field of a message as `effective_at[gt]=1`. Throws INVALID_ARGUMENT.
 */
export function readQuery(desc: DescMessage, query: Json): Json {
  // A Map, because an assignment to the key `__proto__` would set the prototype and lose the value.
  const json = new Map<string, unknown>();
  for (const [name, given] of Object.entries(query)) {
    const texts = (Array.isArray(given) ? given : [given]) as string[];
    const [, outer = name, inner] = /^(\w+)\[(\w*)\]$/.exec(name) ?? [];
    const field = desc.fields.find((candidate) => candidate.name === outer);
    if (field?.fieldKind === "list" && (inner === undefined || inner === "")) {
      const list = [...((json.get(outer) as string[] | undefined) ?? []), ...texts];
      const shape = shapeOf(desc).byKey.get(outer);
      if (shape !== undefined && list.length > shape.max) throw countError(shape, outer, list.length);
      json.set(outer, list);
      continue;
    }
    const [text = ""] = texts;
    if (texts.length > 1) throw invalidArgument(name, `Invalid '${name}': given more than once.`);
    if (field?.fieldKind === "message" && inner !== undefined && inner !== "") {
      const object = (json.get(outer) as Json | undefined) ?? {};
      json.set(outer, { ...object, [inner]: parameterValue(field.message, inner, text) });
    } else json.set(name, parameterValue(desc, name, text));
  }
  return Object.fromEntries(json);
}
