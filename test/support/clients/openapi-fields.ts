import type { Json } from "./client.ts";
import { openapi } from "./openapi.ts";

/** A number, text or list of a request, as the API's description has it. */
export interface Field {
  /** Where in the body, or in the query, its value is. */
  path: readonly (string | number)[];
  schema: Json;
}

/** The keywords by which a description says what a field takes. */
const KEYWORDS = ["minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems"];

/** What a message needs beside its required fields to be accepted, or to have its fields checked. */
const SENSIBLE: Record<string, Json> = {
  SearchRequest: { query: "a", group_by: "file" },
  SearchRequestItem: { query: "a", group_by: "file" },
  SearchVectorStoresRequest: { query: "a", group_by: "file" },
  EmbeddingsOrderInput: { attribute: "a", type: "string" },
  FilterInput: { type: "eq", key: "a", value: "a" },
  StaticChunkingInput: { max_chunk_size_tokens: 4096, chunk_overlap_tokens: 0 },
  CharacterChunkingInput: { max_chunk_size_characters: 100_000, chunk_overlap_characters: 0 },
  EmbedRequest: { input: "a" },
  CreateVectorStoreAliasRequest: { name: "another" },
};

/** Texts that are accepted where a description asks for a pattern. */
const TEXTS = ["a", "1d", "CN=a", "file-a", "vsfb_a", "assistants", "ingest", "project_id", "0".repeat(32)];

/** All fields of a schema that have bounds, those of nested messages included. */
export function* boundedFields(
  given: Json,
  path: Field["path"] = [],
  outer: readonly Json[] = [],
): Generator<Field> {
  const schema = resolve(given);
  // Filters hold filters.
  if (outer.includes(schema)) return;
  const within = [...outer, schema];
  for (const one of (schema["anyOf"] as Json[] | undefined) ?? []) yield* boundedFields(one, path, within);
  if (KEYWORDS.some((keyword) => keyword in schema)) yield { path, schema };
  if (schema["items"] !== undefined) yield* boundedFields(schema["items"] as Json, [...path, 0], within);
  for (const [name, property] of Object.entries((schema["properties"] as Json | undefined) ?? {}))
    yield* boundedFields(property as Json, [...path, name], within);
}

/** A value that a schema accepts, with another one at a path. */
export function valueWith(given: Json, [key, ...rest]: Field["path"], value: unknown): unknown {
  if (key === undefined) return value;
  const schema = branchOf(given, typeof key === "number" ? "array" : "object");
  if (typeof key === "number") return [valueWith(schema["items"] as Json, rest, value)];
  const properties = schema["properties"] as Record<string, Json>;
  const message = sensible(given) as Json;
  // The sizes of chunks must be those of their type.
  if (["static", "characters"].includes(key)) message["type"] = key;
  // Settings of a batch are those of its `file_ids`.
  if (nameOf(given) === "CreateVectorStoreFileBatchRequest" && key !== "files")
    message["file_ids"] = ["file-a"];
  return { ...message, [key]: valueWith(properties[key] as Json, rest, value) };
}

/** A value that a schema accepts, with what it requires. */
export function sensible(given: Json): unknown {
  const schema = branchOf(given);
  const values = schema["enum"] as unknown[] | undefined;
  if (values !== undefined) return values[0];
  switch ([schema["type"]].flat()[0]) {
    case "object": {
      const names = (schema["required"] ?? []) as string[];
      const properties = schema["properties"] as Record<string, Json>;
      const entries = names.map((name) => [name, sensible(properties[name] as Json)]);
      return { ...(Object.fromEntries(entries) as Json), ...SENSIBLE[nameOf(given)] };
    }
    case "array":
      return [sensible(schema["items"] as Json)];
    case "string":
      return textFor(schema["pattern"] as string | undefined);
    default:
      return Math.max(1, (schema["minimum"] as number | undefined) ?? 1);
  }
}

/** A text that a pattern accepts, of a number of characters if that is possible. */
export function textFor(pattern: string | undefined, length?: number): string {
  const found = TEXTS.find((text) => pattern === undefined || new RegExp(pattern, "u").test(text));
  if (found === undefined) throw new Error(`no text for ${pattern}`);
  return length === undefined ? found : found.padEnd(length, "a").slice(0, length);
}

/** How errors name the field: `searches[0].limit`. */
export function paramOf({ path }: Field): string {
  return path.reduce<string>(
    (name, key) => (typeof key === "number" ? `${name}[${key}]` : name === "" ? key : `${name}.${key}`),
    "",
  );
}

/** The schema that one refers to, or that of its alternatives which has the type. */
function branchOf(given: Json, type?: string): Json {
  const schema = resolve(given);
  const branches = (schema["anyOf"] as Json[] | undefined)?.map((one) => branchOf(one, type));
  return branches?.find((one) => type === undefined || one["type"] === type) ?? schema;
}

function resolve(schema: Json): Json {
  const name = nameOf(schema);
  return name === "" ? schema : (openapi.components.schemas[name] as Json);
}

function nameOf(schema: Json): string {
  const alternatives = (schema["anyOf"] as Json[] | undefined) ?? [schema];
  const reference = alternatives.find((one) => typeof one["$ref"] === "string")?.["$ref"] as
    | string
    | undefined;
  return reference?.split("/").at(-1) ?? "";
}
