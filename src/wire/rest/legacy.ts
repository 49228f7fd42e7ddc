/**
 * Compatibility with requests of litellm-pgvector and LiteLLM that differ from OpenAI's: paths without /v1,
 * `limit` above its maximum, flat `filters`, `return_metadata`, `chunk_size`, and `response_format`, which selects
 * litellm-pgvector's documented reply ("flat") or OpenAI's members only ("openai"). Also what OpenAI's JSON has and no
 * proto file can say: entries of the audit log with a field named like their type.
 */
import type { DescMethod } from "@bufbuild/protobuf";
import { AuditService } from "../../../gen/pgquiver/v1/audit_pb.ts";
import { EmbeddingService } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { SearchService } from "../../../gen/pgquiver/v1/search_pb.ts";
import { ChunkingStrategySchema } from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { checkRange } from "../../api/checks.ts";
import { invalidArgument, missingParameter } from "../../errors.ts";
import { limits } from "../../limits.ts";
import { isObject } from "./json-reader.ts";

type Json = Record<string, unknown>;

/**
 * Paths without the prefix /v1, and paths with the prefix twice: LiteLLM appends /v1 to a base URL that ends
 * in /v1.
 */
const ALIASES =
  /^(?:\/v1(?=\/v1\/)|(?=\/(?:vector_stores|vector_store_aliases|files|embeddings|models|search|uploads|diagnostics|organization)(?:[/?]|$)))/;

/** Rewrites a URL without the prefix /v1, or with the prefix twice, to its path under /v1. */
export function canonicalUrl(url: string): string {
  const alias = ALIASES.exec(url);
  if (alias === null) return url;
  return alias[0] === "" ? `/v1${url}` : url.slice(alias[0].length);
}

/** A request rewritten to OpenAI's keys, and the conversion of its reply. */
export interface LegacyRequest {
  json: Json;
  /** Converts the JSON reply to the requested format. */
  reshape: (reply: Json) => Json;
}

const keep = (reply: Json): Json => reply;

/** `response_format` of a search -> conversion of the reply. */
const SHAPES = new Map<unknown, (reply: Json) => Json>([
  ["flat", flatten],
  ["openai", withoutExtensions],
]);

/**
 * Rewrites the legacy keys of a request; a request without such keys is returned unchanged. Throws
 * INVALID_ARGUMENT.
 */
export function readLegacy(method: DescMethod, json: Json): LegacyRequest {
  if (method === SearchService.method.search) return readSearch(json);
  if (method === SearchService.method.batchSearch) return { json, reshape: withMetadataOfAll };
  // litellm-pgvector's reply repeats what was added; gRPC's does so on request.
  if (method === EmbeddingService.method.batchCreateEmbeddings)
    return { json: { ...json, include_content: json["include_content"] ?? true }, reshape: keep };
  if (method === AuditService.method.listAuditLogs) return { json, reshape: nameDetails };
  const takesChunking = method.input.fields.some(
    ({ message }) => message?.typeName === ChunkingStrategySchema.typeName,
  );
  return { json: takesChunking ? readChunking(json) : json, reshape: keep };
}

/** Rewrites the chunking strategy of a request, and of each of its `files`. */
function readChunking(json: Json): Json {
  const files = json["files"];
  return {
    ...json,
    ...("chunking_strategy" in json && {
      chunking_strategy: fromCharacters(json["chunking_strategy"], "chunking_strategy"),
    }),
    ...(Array.isArray(files) && {
      files: files.map((file: unknown, index) => {
        if (!isObject(file) || !("chunking_strategy" in file)) return file;
        const strategy = fromCharacters(file["chunking_strategy"], `files[${index}].chunking_strategy`);
        return { ...file, chunking_strategy: strategy };
      }),
    }),
  };
}

/**
 * Converts LiteLLM's chunking strategy, which has no `type`, sizes in characters, and `separators`, which are
 * ignored.
 */
function fromCharacters(strategy: unknown, param: string): unknown {
  if (!isObject(strategy)) return strategy;
  const { chunk_size: size, chunk_overlap: overlap = null, separators: _, ...rest } = strategy;
  if (size === undefined || size === null) return rest;
  if (rest["type"] !== undefined && rest["type"] !== null) {
    const message = `Invalid '${param}.chunk_size': only allowed without 'type'.`;
    throw invalidArgument(`${param}.chunk_size`, message);
  }
  if (rest["static"] !== undefined && rest["static"] !== null) throw missingParameter(`${param}.type`);
  const sizeMax = readInteger(size, `${param}.chunk_size`);
  const shared = overlap === null ? 0 : readInteger(overlap, `${param}.chunk_overlap`);
  checkRange(`${param}.chunk_size`, sizeMax, 1, limits.chunk_chars_max);
  checkRange(`${param}.chunk_overlap`, shared, 0, Math.floor(sizeMax / 2));
  const characters = { max_chunk_size_characters: sizeMax, chunk_overlap_characters: shared };
  return { ...rest, type: "characters", characters };
}

function readInteger(value: unknown, param: string): number {
  if (typeof value === "number" && Number.isInteger(value)) return value;
  throw invalidArgument(param, `Invalid type for '${param}': expected an integer.`, "INVALID_TYPE");
}

function readSearch(body: Json): LegacyRequest {
  const { limit, return_metadata: returnMetadata = true, response_format: format = null, ...rest } = body;
  // litellm-pgvector reduces larger values to its maximum.
  if (limit !== undefined && limit !== null)
    rest["limit"] = Math.min(readInteger(limit, "limit"), limits.search_limit_max);
  if (returnMetadata !== null && typeof returnMetadata !== "boolean") {
    throw invalidArgument(
      "return_metadata",
      "Invalid type for 'return_metadata': expected a boolean.",
      "INVALID_TYPE",
    );
  }
  const shape = format === null ? keep : SHAPES.get(format);
  if (shape === undefined) {
    const message = "Invalid value for 'response_format'. Supported values are: 'flat' and 'openai'.";
    throw invalidArgument("response_format", message);
  }
  if (isFlatFilter(rest["filters"])) rest["filters"] = fromFlatFilter(rest["filters"]);
  return {
    json: rest,
    reshape: (reply) => shape(returnMetadata === false ? withoutMetadata(reply) : withMetadata(reply)),
  };
}

/**
 * Whether filters are litellm-pgvector's flat map of metadata keys to values, and neither a filter of
 * OpenAI's nor an incomplete one.
 */
function isFlatFilter(filters: unknown): filters is Json {
  return isObject(filters) && !("key" in filters) && !("filters" in filters) && !isIncomplete(filters);
}

/**
 * Whether an object looks like a filter of OpenAI's that lacks a key. Taken for a flat map, such an object
 * would match nothing; passed on, it is refused with an error.
 */
function isIncomplete(filters: object): boolean {
  if (!("type" in filters)) return false;
  if (filters.type === "and" || filters.type === "or") return true;
  return "value" in filters && (OPERATORS.has(filters.type) || Object.keys(filters).length === 2);
}

const OPERATORS = new Set<unknown>([
  "eq",
  "ne",
  "gt",
  "gte",
  "lt",
  "lte",
  "in",
  "nin",
  "contains",
  "prefix",
  "text",
]);

function fromFlatFilter(filters: Json): Json | null {
  const equals = Object.entries(filters).map(([key, value]) => {
    if (typeof value === "object") {
      const param = `filters.${key}`;
      throw invalidArgument(
        param,
        `Invalid type for '${param}': expected a string, a number or a boolean.`,
        "INVALID_TYPE",
      );
    }
    return { type: "eq", key, value };
  });
  return equals.length === 0 ? null : { type: "and", filters: equals };
}

/** Adds `metadata`, litellm-pgvector's name for the `attributes` of a result. */
function withMetadata(reply: Json): Json {
  return {
    ...reply,
    data: (reply["data"] as Json[]).map((item) => ({ ...item, metadata: item["attributes"] })),
  };
}

function withMetadataOfAll(reply: Json): Json {
  return { ...reply, data: (reply["data"] as Json[]).map(withMetadata) };
}

function withoutMetadata(reply: Json): Json {
  const data = (reply["data"] as Json[]).map((item) => ({ ...item, attributes: null, metadata: null }));
  return { ...reply, data };
}

/** Puts the details of each entry of the audit log under the name of its type, as OpenAI has them. */
function nameDetails(reply: Json): Json {
  const data = (reply["data"] as Json[]).map(({ details, ...item }) => ({
    ...item,
    [String(item["type"])]: details,
  }));
  return { ...reply, data };
}

/** Converts a search reply to the format that litellm-pgvector's README documents. */
function flatten(reply: Json): Json {
  const data = (reply["data"] as Json[]).map((item) => ({
    id: item["id"],
    content: (item["content"] as { text: string }[]).map((piece) => piece.text).join("\n"),
    score: item["score"],
    metadata: item["metadata"],
  }));
  return { object: "vector_store.search", data, usage: reply["usage"] };
}

/**
 * Removes the members that OpenAI's schema does not have, for strict validators: its `additionalProperties`
 * is false for the page and for the items.
 */
function withoutExtensions({ usage: _usage, statistics: _statistics, data, ...page }: Json): Json {
  const toItem = ({
    id: _id,
    metadata: _metadata,
    embedding: _embedding,
    passage: _passage,
    place: _place,
    ...item
  }: Json) => item;
  return { ...page, data: (data as Json[]).map(toItem) };
}
