import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Json } from "../../support/clients/client.ts";
import {
  boundedFields,
  paramOf,
  sensible,
  textFor,
  valueWith,
  type Field,
} from "../../support/clients/openapi-fields.ts";
import { openapi, type Operation } from "../../support/clients/openapi.ts";
import { startServer } from "../../support/servers/server.ts";

/** Every bound in the API's description, held against the service: the bound is taken, what is beyond it is refused. */
const KEY = "a-key-of-16-chars";
const authorization = `Bearer ${KEY}`;
const server = await startServer({ apiKeys: [KEY] });
afterAll(() => server[Symbol.asyncDispose]());

/** Things that paths name, so that calls come as far as the check of the field. */
const ids: Record<string, string> = { model: "lexical", ingest_id: "none", name: "alias" };

async function make(path: string, body: Json | FormData): Promise<string> {
  const isForm = body instanceof FormData;
  const headers = { authorization, ...(!isForm && { "content-type": "application/json" }) };
  const reply = await fetch(server.url + path, {
    method: "POST",
    body: isForm ? body : JSON.stringify(body),
    headers,
  });
  const made = (await reply.json()) as { id: string };
  expect(reply.status, JSON.stringify(made)).toBe(200);
  return made.id;
}

function fileForm(): FormData {
  const form = new FormData();
  form.set("purpose", "assistants");
  form.set("file", new Blob(["text"]), "a.txt");
  return form;
}

beforeAll(async () => {
  const store = (ids["vector_store_id"] = await make("/v1/vector_stores", {}));
  ids["embedding_id"] = await make(`/v1/vector_stores/${store}/embeddings`, { content: "a" });
  const file = (ids["file_id"] = await make("/v1/files", fileForm()));
  ids["batch_id"] = await make(`/v1/vector_stores/${store}/file_batches`, { file_ids: [file] });
  const upload = { bytes: 4, filename: "a.txt", mime_type: "text/plain", purpose: "assistants" };
  ids["upload_id"] = await make("/v1/uploads", upload);
  const project = (ids["project_id"] = await make("/v1/organization/projects", { name: "A team" }));
  const key = { name: "A key", scopes: ["search"] };
  ids["api_key_id"] = await make(`/v1/organization/projects/${project}/api_keys`, key);
  await make("/v1/vector_store_aliases", { name: "alias", vector_store_id: store });
});

/** A field of an operation's request. */
interface Place {
  /** Verb and path. */
  route: string;
  operation: Operation;
  field: Field;
  /** The media type of the body that has the field; undefined: the query has it. */
  type: string | undefined;
  /** The schema of the body. */
  schema: Json;
}

const places: Place[] = Object.entries(openapi.paths).flatMap(([path, verbs]) =>
  Object.entries(verbs).flatMap(([verb, operation]) => {
    const route = `${verb.toUpperCase()} ${path}`;
    const queried = (operation.parameters ?? []).filter((parameter) => parameter.in === "query");
    const bodies = Object.entries(operation.requestBody?.content ?? {});
    return [
      ...queried.flatMap(({ name, schema }) =>
        [...boundedFields(schema, [name])].map((field) => ({
          route,
          operation,
          field,
          type: undefined,
          schema,
        })),
      ),
      ...bodies.flatMap(([type, { schema }]) =>
        [...boundedFields(schema)].map((field) => ({ route, operation, field, type, schema })),
      ),
    ];
  }),
);

/** A value of a field, and whether the service takes it. */
type Case = [what: string, value: unknown, isTaken: boolean];

function casesOf({ schema }: Field): Case[] {
  const { minimum, maximum, minLength, maxLength, minItems, maxItems, pattern } = schema as {
    [keyword: string]: number | undefined;
  } & { pattern?: string };
  const step = [schema["type"]].flat()[0] === "integer" ? 1 : 1e-4;
  const items = (count: number) => Array.from({ length: count }, () => sensible(schema["items"] as Json));
  const cases: (Case | false)[] = [
    minimum !== undefined && ["the minimum", minimum, true],
    minimum !== undefined && ["less than the minimum", minimum - step, false],
    maximum !== undefined && ["the maximum", maximum, true],
    maximum !== undefined && ["more than the maximum", maximum + step, false],
    minLength !== undefined && ["a shorter text", "a".repeat(minLength - 1), false],
    maxLength !== undefined && ["the longest text", textFor(pattern, maxLength), true],
    maxLength !== undefined && ["a longer text", textFor(pattern, maxLength + 1), false],
    pattern !== undefined && ["a text of the pattern", textFor(pattern), true],
    pattern !== undefined && ["a text of no pattern", " ", false],
    minItems !== undefined && ["the fewest items", items(minItems), true],
    minItems !== undefined && ["fewer items", items(minItems - 1), false],
    maxItems !== undefined && ["more items", items(maxItems + 1), false],
  ];
  return cases.filter((one) => one !== false);
}

/** Whether the service refuses a value, with an error that names its field. */
async function isRefused(place: Place, value: unknown): Promise<{ isRefused: boolean; reply: string }> {
  const { route, operation, field, type, schema } = place;
  const [method = "", path = ""] = route.split(" ");
  const url = new URL(server.url + path.replaceAll(/\{(\w+)\}/g, (_, name: string) => ids[name] as string));
  for (const { name, in: where, required, schema: one } of operation.parameters ?? [])
    if (where === "query" && required === true) url.searchParams.set(name, String(sensible(one)));
  let body: string | FormData | undefined;
  const json = operation.requestBody?.content["application/json"]?.schema;
  if (type === "multipart/form-data") {
    body = fileForm();
    if (field.path[0] !== "purpose") body.set("expires_after[anchor]", "created_at");
    body.set(String(field.path[0]), String(value));
  } else if (type !== undefined) body = JSON.stringify(valueWith(schema, field.path, value));
  else {
    const [name = "", inner] = field.path as string[];
    const key = typeof inner === "string" ? `${name}[${inner}]` : name;
    url.searchParams.delete(key);
    for (const one of [value].flat()) url.searchParams.append(key, String(one));
    if (json !== undefined) body = JSON.stringify(sensible(json));
  }
  const contentType = type ?? (body === undefined ? undefined : "application/json");
  const reply = await fetch(url, {
    method,
    headers: {
      authorization,
      ...(contentType !== undefined && !(body instanceof FormData) && { "content-type": contentType }),
    },
    body: body ?? null,
  });
  const text = await reply.text();
  // What is sent as it is stored is no refusal.
  if (reply.headers.get("content-type")?.startsWith("application/json") !== true)
    return { isRefused: false, reply: `${reply.status}` };
  const { error, errors } = JSON.parse(text) as { error?: Refusal; errors?: (Refusal & { field: string })[] };
  // An ingest is answered with the errors of its rows.
  const { code = "", param = errors?.[0]?.field } = (reply.status === 400 ? error : errors?.[0]) ?? {};
  // Refused for what it is, and not beside others that are there.
  const isValue = /^(invalid_|missing_required|(string|array|object|integer)_(above|below))/i.test(code);
  return { isRefused: isValue && namesOf(field).has(param ?? ""), reply: `${reply.status} ${text}` };
}

interface Refusal {
  code: string;
  param?: string;
}

/** How an error may name a field: an item also by its list, a list also by its first item. */
function namesOf(field: Field): Set<string> {
  // A form has `expires_after[seconds]`.
  const name = paramOf(field).replace(/\[(\D\w*)\]/, ".$1");
  return new Set([name, name.replace(/\[0\]$/, ""), `${name}[0]`, `open.${name}`]);
}

/** Values that only this service, or another field, refuses. */
const FURTHER: Record<string, string> = {
  "POST /v1/vector_stores language the longest text": "the database has no such text search configuration",
  "POST /v1/uploads bytes the maximum": "an operator sets the maximum",
  "POST /v1/vector_stores/{vector_store_id}/search group_size the maximum": "there are ten groups",
  "POST /v1/vector_stores/{vector_store_id}/search/batch searches[0].group_size the maximum":
    "there are ten groups",
  "POST /v1/search group_size the maximum": "there are ten groups",
};

describe.each(places)("$route", (place) => {
  const { route, field } = place;
  for (const [what, value, isTaken] of casesOf(field)) {
    const name = `${route} ${paramOf(field)} ${what}`;
    // A key has the limits of a project but this one.
    const isOfProjects = /api_keys.* limits.max_file_workers/.test(name);
    if (isTaken && (name in FURTHER || isOfProjects)) continue;
    test(`${isTaken ? "takes" : "refuses"} ${what} of ${paramOf(field)}`, async () => {
      const { isRefused: got, reply } = await isRefused(place, value);
      expect(got, reply).toBe(!isTaken);
    });
  }
});
