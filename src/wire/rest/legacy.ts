/**
 * Everything litellm-pgvector spells differently from OpenAI, and nothing else. Its users keep
 * their requests: un-prefixed paths, `limit`, flat `filters`, `return_metadata`, and on request
 * the reply its README documents.
 */
import type { DescMethod } from "@bufbuild/protobuf";
import type { ContextValues } from "@connectrpc/connect";
import { SearchService } from "../../../gen/pgquiver/v1/search_pb.ts";
import { searchResultsMax } from "../../api/search-results-max.ts";
import { invalidArgument } from "../../errors.ts";

type Json = Record<string, unknown>;

/** litellm-pgvector's cap for `limit`, to which it lowered larger values. */
const LEGACY_LIMIT_MAX = 100;

/** Un-prefixed paths, and the doubled prefix LiteLLM makes of a base URL that ends in /v1. */
const ALIASES =
  /^(?:\/v1(?=\/v1\/)|(?=\/(?:vector_stores|files|embeddings|models|uploads|diagnostics)(?:[/?]|$)))/;

/** Gives the path under /v1 for the aliases litellm-pgvector and LiteLLM's older versions use. */
export function canonicalUrl(url: string): string {
  const alias = ALIASES.exec(url);
  if (alias === null) return url;
  return alias[0] === "" ? `/v1${url}` : url.slice(alias[0].length);
}

/** A request in OpenAI's spelling, with the way back to what the caller expects. */
export interface LegacyRequest {
  json: Json;
  /** Turns the JSON reply into the shape asked for. */
  reshape: (reply: Json) => Json;
}

/** Rewrites the legacy keys of a request. One without them comes back as it was. */
export function readLegacy(method: DescMethod, json: Json, values: ContextValues): LegacyRequest {
  if (method === SearchService.method.search) return readSearch(json, values);
  return { json, reshape: (reply) => reply };
}

function readSearch(body: Json, values: ContextValues): LegacyRequest {
  const { limit, return_metadata: returnMetadata = true, response_format: format = null, ...rest } = body;
  if (limit !== undefined && limit !== null) {
    if (rest["max_num_results"] !== undefined && rest["max_num_results"] !== null) {
      throw invalidArgument("limit", "'limit' is another name of 'max_num_results': send one of them.");
    }
    if (typeof limit !== "number" || !Number.isInteger(limit)) {
      throw invalidArgument("limit", "Invalid type for 'limit': expected an integer.", "INVALID_TYPE");
    }
    if (limit < 1) {
      const message = `Invalid 'limit': integer below minimum value. Expected a value >= 1, but got ${limit} instead.`;
      throw invalidArgument("limit", message, "INTEGER_BELOW_MIN_VALUE");
    }
    rest["max_num_results"] = Math.min(limit, LEGACY_LIMIT_MAX);
    values.set(searchResultsMax, LEGACY_LIMIT_MAX);
  }
  if (returnMetadata !== null && typeof returnMetadata !== "boolean") {
    throw invalidArgument(
      "return_metadata",
      "Invalid type for 'return_metadata': expected a boolean.",
      "INVALID_TYPE",
    );
  }
  if (format !== null && format !== "flat") {
    throw invalidArgument(
      "response_format",
      "Invalid value for 'response_format'. Supported values are: 'flat'.",
    );
  }
  if (isFlatFilter(rest["filters"])) rest["filters"] = fromFlatFilter(rest["filters"]);
  return {
    json: rest,
    reshape: (reply) => {
      const bare = returnMetadata === false ? withoutMetadata(reply) : reply;
      return format === "flat" ? flatten(bare) : bare;
    },
  };
}

/** A flat map has neither of the keys of OpenAI's filters, and is none of them that lacks one. */
function isFlatFilter(filters: unknown): filters is Json {
  return (
    typeof filters === "object" &&
    filters !== null &&
    !Array.isArray(filters) &&
    !("key" in filters) &&
    !("filters" in filters) &&
    !isIncomplete(filters)
  );
}

/** Whether a filter is meant as one of OpenAI's: taken for a map, it would find nothing. */
function isIncomplete(filters: object): boolean {
  if (!("type" in filters)) return false;
  if (filters.type === "and" || filters.type === "or") return true;
  return "value" in filters && (OPERATORS.has(filters.type) || Object.keys(filters).length === 2);
}

const OPERATORS = new Set<unknown>(["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]);

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

function withoutMetadata(reply: Json): Json {
  const data = (reply["data"] as Json[]).map((item) => ({ ...item, attributes: null, metadata: null }));
  return { ...reply, data };
}

/** The reply litellm-pgvector's README documents. */
function flatten(reply: Json): Json {
  const data = (reply["data"] as Json[]).map((item) => ({
    id: item["id"],
    content: (item["content"] as { text: string }[]).map((piece) => piece.text).join("\n"),
    score: item["score"],
    metadata: item["metadata"],
  }));
  return { object: "vector_store.search", data, usage: reply["usage"] };
}
