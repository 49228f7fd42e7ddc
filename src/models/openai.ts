import { APIConnectionError, APIConnectionTimeoutError, APIError, OpenAI } from "openai";
import {
  deadlineExceeded,
  failedPrecondition,
  invalidArgument,
  rateLimited,
  unavailable,
} from "../errors.ts";
import { mapConcurrently } from "../api/concurrency/semaphore.ts";
import { traceHeaders } from "../tracing.ts";
import type { Embedder, Embeddings, Patience } from "./embedder.ts";
import { createQueue } from "./queue.ts";
import { traceRequest } from "./request-span.ts";

/** The embedding provider, and the limits of requests to it. */
export interface OpenAIEmbedderOptions {
  /**
   * Base URL of the provider. To a URL without a path `/v1` is appended, which LiteLLM, OpenAI, vLLM and
   * Ollama all serve; if the provider answers 404, the URL without `/v1` is tried. A URL with a path is used
   * unchanged.
   */
  baseUrl: string;
  /** The bearer key; empty: no Authorization header is sent. */
  apiKey: string;
  /** Name of the model. LiteLLM's routing prefixes `openai/` and `litellm_proxy/` are removed. */
  model: string;
  /** Required dimensions of every vector; undefined: those of the provider's replies. */
  dimensions: number | undefined;
  /** What the names of the variables with these settings begin with, for error messages; default: `EMBEDDING__`. */
  prefix?: string;
  /**
   * Whether requests contain `dimensions`. "auto": only for `text-embedding-3` models. For other models
   * LiteLLM answers with an error, and litellm-pgvector's configurations set the dimensions for any model
   * without sending them.
   */
  sendDimensions: "auto" | boolean;
  /**
   * `encoding_format` of requests. "omit": absent, because several providers refuse every value. Replies in
   * either format are accepted.
   */
  encodingFormat: "omit" | "float" | "base64";
  /** Maximum number of texts per request; OpenAI accepts 2,048, local servers far fewer. */
  batchTextsMax: number;
  /** Maximum number of concurrent requests, over all calls of this embedder. */
  concurrency: number;
  /**
   * Timeout of each attempt, until the last byte of the reply; the wait of a caller for one of the `concurrency`
   * requests is taken off. At most 300,000, the timeout of Node's fetch.
   */
  timeoutMs: number;
  /**
   * Maximum number of retries. The delay is Retry-After, if that is at most a minute, otherwise 0.5 s, 1 s, 2
   * s, ... up to 8 s.
   */
  retriesMax: number;
}

/**
 * Maximum size of the texts of a request, in bytes of UTF-8. OpenAI accepts 300,000 tokens, and byte-level
 * BPE makes at most one token per byte. The common estimate of four bytes per token is not a bound
 * (cl100k_base: prose 3.9, code 4.3, Hindi 2.7, hex 1.8, base64 1.4, blank lines 1.0), and a request of
 * 75,000 tokens is large enough to use up any rate limit.
 */
const REQUEST_BYTES_MAX = 300_000;

/** Maximum number of characters of a provider's error message that are passed to the caller. */
const PROVIDER_TEXT_CHARS_MAX = 500;

/** Retry delay told to callers: the default when the provider sends no Retry-After, and the maximum. */
const RETRY_AFTER_DEFAULT_MS = 1_000;
const RETRY_AFTER_MAX_MS = 60_000;

/** How long a caller may wait for its turn, in parts of the timeout, so that the rest is enough for the request. */
const WAIT_SHARE = 1 / 2;

/** What the names of the variables of the model in use begin with. */
const PREFIX = "EMBEDDING__";

/** Creates an embedder that calls a provider with OpenAI's API, `POST /embeddings`. */
export function createOpenAIEmbedder(options: OpenAIEmbedderOptions): Embedder {
  const { dimensions, concurrency, batchTextsMax, prefix = PREFIX } = options;
  const model = options.model.replace(/^(?:openai|litellm_proxy)\//, "");
  const sendsDimensions =
    options.sendDimensions === "auto" ? model.includes("text-embedding-3") : options.sendDimensions;
  const settings = {
    model,
    ...(options.encodingFormat === "omit" ? {} : { encoding_format: options.encodingFormat }),
    ...(sendsDimensions && dimensions !== undefined ? { dimensions } : {}),
  };
  const post = createPost(options, "/embeddings");
  const queue = createQueue(concurrency, options.timeoutMs * WAIT_SHARE);

  async function embedBatch(
    texts: readonly string[],
    signal: AbortSignal,
    patience: Patience,
  ): Promise<Embeddings> {
    const startedAt = performance.now();
    using _ = await queue(signal, patience);
    const waitedMs = patience === "bounded" ? performance.now() - startedAt : 0;
    const timeoutMs = Math.ceil(Math.max(options.timeoutMs - waitedMs, options.timeoutMs * WAIT_SHARE));
    return await traceRequest(options.baseUrl, model, async () => {
      const reply = await post({ ...settings, input: texts }, signal, timeoutMs);
      const embeddings = readReply(reply, texts.length);
      checkLengths(embeddings.vectors, dimensions, model, prefix);
      return embeddings;
    });
  }

  return {
    model,
    dimensions,
    async embed(texts, signal, patience = "bounded") {
      const batches = splitTexts(texts, batchTextsMax);
      const replies = await mapConcurrently(
        batches,
        concurrency,
        (batch, failed) => embedBatch(batch, failed, patience),
        signal,
      );
      const vectors = replies.flatMap((reply) => reply.vectors);
      checkLengths(vectors, dimensions, model, prefix);
      return { vectors, tokens: replies.reduce((sum, reply) => sum + reply.tokens, 0) };
    },
  };
}

/**
 * Splits the texts into requests, by number and by size. A text that exceeds the size by itself is sent
 * alone, and the provider may refuse it.
 */
function splitTexts(texts: readonly string[], textsMax: number): string[][] {
  const batches: string[][] = [];
  let bytes = Infinity;
  for (const text of texts) {
    const textBytes = Buffer.byteLength(text);
    bytes += textBytes;
    const batch = batches.at(-1);
    if (batch !== undefined && batch.length < textsMax && bytes <= REQUEST_BYTES_MAX) {
      batch.push(text);
    } else {
      batches.push([text]);
      bytes = textBytes;
    }
  }
  return batches;
}

/** Creates the function that sends a request, with retries. Failures are thrown as errors of errors.ts. */
/** Returns what posts a body to a path of a provider, such as "/embeddings", and resolves to the reply's JSON. */
export function createPost(
  options: Pick<OpenAIEmbedderOptions, "apiKey" | "baseUrl" | "retriesMax" | "prefix">,
  path: string,
): (body: object, signal: AbortSignal, timeoutMs: number) => Promise<unknown> {
  const { apiKey, baseUrl, prefix = PREFIX } = options;
  const client = new OpenAI({
    // Every option that the SDK would read from the environment is set: OPENAI_API_KEY may be the key of this
    // service's own clients, and must not be sent to the provider.
    apiKey: apiKey === "" ? "none" : apiKey,
    adminAPIKey: null,
    organization: null,
    project: null,
    webhookSecret: null,
    baseURL: baseUrl,
    logLevel: "off",
    maxRetries: options.retriesMax,
    defaultHeaders: { "user-agent": "pgquiver", ...(apiKey === "" && { authorization: null }) },
    fetch: (url, init) => fetchWhole(url, init, apiKey),
  });
  const bare = new URL(baseUrl).pathname === "/";
  const alternative = bare ? endpointUrl(baseUrl, path) : undefined;
  let endpoint = endpointUrl(baseUrl, bare ? `/v1${path}` : path);

  return async (body, signal, timeoutMs) => {
    const request = { body, signal, timeout: timeoutMs, headers: traceHeaders() };
    const tried = endpoint;
    try {
      // Not `embeddings.create`, which adds `encoding_format: "base64"` and decodes the reply without
      // validation.
      return await client.post<unknown>(tried, request);
    } catch (error) {
      if (alternative === undefined || tried === alternative || !isUnknownUrl(error)) {
        throw toError(error, timeoutMs, prefix);
      }
      try {
        const reply = await client.post<unknown>(alternative, request);
        endpoint = alternative;
        return reply;
      } catch (second) {
        throw toError(isUnknownUrl(second) ? error : second, timeoutMs, prefix);
      }
    }
  };
}

function endpointUrl(baseUrl: string, path: string): string {
  const url = new URL(baseUrl);
  url.pathname = url.pathname.replace(/\/+$/, "") + path;
  return url.href;
}

/**
 * Whether a 404 concerns the URL and not the model: a provider without the model also answers 404, with the
 * word "model" in its message.
 */
function isUnknownUrl(error: unknown): boolean {
  return error instanceof APIError && error.status === 404 && !/model/i.test(error.message);
}

/**
 * The SDK's `fetch`. Reads the whole body, because the SDK retries a failed fetch, but not a reply that is
 * cut off. Masks the API key in error messages of the provider.
 */
async function fetchWhole(
  url: string | URL | Request,
  init: RequestInit | undefined,
  apiKey: string,
): Promise<Response> {
  // Redirects are refused: following one would send the texts, and on the same host the key, to a URL that
  // the operator has not configured.
  const response = await fetch(url, { ...init, redirect: "error" });
  if (response.ok) return new Response(await response.arrayBuffer(), response);
  let text = await response.text();
  if (apiKey !== "") text = text.replaceAll(apiKey, "***");
  // LiteLLM answers 500 for a parameter that its model does not support: mapped to 400, so that the SDK does
  // not retry.
  const status = text.includes("UnsupportedParamsError") ? 400 : response.status;
  return new Response(text, { status, headers: response.headers });
}

/** Converts an error of the SDK to the caller's error. */
function toError(error: unknown, timeoutMs: number, prefix: string): Error {
  if (error instanceof APIConnectionTimeoutError) {
    return deadlineExceeded(`The embedding provider did not answer within ${timeoutMs} ms.`, error);
  }
  if (error instanceof APIConnectionError) {
    return providerUnavailable("The embedding provider cannot be reached.", error, RETRY_AFTER_DEFAULT_MS);
  }
  if (!(error instanceof APIError) || typeof error.status !== "number") {
    return providerUnavailable("The embedding provider's reply cannot be read.", error);
  }
  const { status, headers } = error;
  const text = error.message.replace(/^\d+ /, "").replaceAll(/\s+/g, " ").slice(0, PROVIDER_TEXT_CHARS_MAX);
  switch (status) {
    case 400:
    case 404:
    case 413:
    case 422:
      return invalidArgument(
        undefined,
        `The embedding provider refused the request: ${text}`,
        "EMBEDDING_PROVIDER_REFUSED",
      );
    case 401:
    case 403:
      return providerUnavailable(
        `The embedding provider refused the service's key (${prefix}API_KEY).`,
        error,
      );
    case 429:
      return rateLimited(`The embedding provider's rate limit is exceeded: ${text}`, retryAfterMs(headers));
    default: {
      const passing = status >= 500 || status === 408 || status === 409;
      return providerUnavailable(
        passing
          ? `The embedding provider failed with HTTP status ${status}.`
          : `The embedding provider answered with HTTP status ${status}: ${text}`,
        error,
        passing ? retryAfterMs(headers) : undefined,
      );
    }
  }
}

/** UNAVAILABLE; `retryAfterMs` is given when a retry can help. */
function providerUnavailable(message: string, cause?: unknown, retryAfterMs?: number): Error {
  return unavailable("EMBEDDING_PROVIDER_UNAVAILABLE", message, {
    cause,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/**
 * The provider's retry delay: from OpenAI's header `retry-after-ms`, or from `retry-after`, in seconds or as
 * a date (RFC 9110, 10.2.3); limited to RETRY_AFTER_MAX_MS.
 */
function retryAfterMs(headers: Headers | undefined): number {
  const finer = headers?.get("retry-after-ms");
  const plain = headers?.get("retry-after");
  let delayMs = Number.NaN;
  if (finer) delayMs = Number(finer);
  else if (plain)
    delayMs = Number.isNaN(Number(plain)) ? Date.parse(plain) - Date.now() : Number(plain) * 1000;
  return delayMs >= 0 ? Math.min(delayMs, RETRY_AFTER_MAX_MS) : RETRY_AFTER_DEFAULT_MS;
}

/**
 * Validates a reply and returns its vectors in the order of the texts, by `index`; an item without an index
 * has that of its position.
 */
function readReply(reply: unknown, count: number): Embeddings {
  const { data, usage } = (reply ?? {}) as {
    data?: ({ index?: unknown; embedding?: unknown } | null)[];
    usage?: { total_tokens?: unknown; prompt_tokens?: unknown } | null;
  };
  if (!Array.isArray(data)) throw unusable("it is not a list of embeddings");
  if (data.length !== count) throw unusable(`it has ${data.length} embeddings for ${count} texts`);
  const vectors: Float32Array[] = [];
  for (const [position, item] of data.entries()) {
    const index = Number(item?.index ?? position);
    if (!Number.isInteger(index) || index < 0 || index >= count || vectors[index] !== undefined) {
      throw unusable(`index ${index} is out of range or appears twice`);
    }
    vectors[index] = readVector(item?.embedding);
  }
  const tokens = usage?.total_tokens ?? usage?.prompt_tokens;
  return { vectors, tokens: typeof tokens === "number" ? tokens : 0 };
}

/**
 * Reads a vector: an array of numbers, or base64 of little-endian float32. Throws for empty, non-finite and
 * zero vectors.
 */
function readVector(value: unknown): Float32Array {
  let vector: Float32Array;
  if (typeof value === "string") {
    const bytes = Buffer.from(value, "base64");
    if (bytes.length % 4 !== 0) throw unusable("an embedding is not base64 of float32 numbers");
    vector = new Float32Array(bytes.length / 4);
    for (let i = 0; i < vector.length; i += 1) vector[i] = bytes.readFloatLE(i * 4);
  } else if (Array.isArray(value) && value.every((number) => typeof number === "number")) {
    vector = new Float32Array(value);
  } else {
    throw unusable("an embedding is neither an array of numbers nor base64");
  }
  if (vector.length === 0) throw unusable("an embedding is empty");
  if (!vector.every((number) => Number.isFinite(number)))
    throw unusable("an embedding has a number that is not finite");
  if (vector.every((number) => number === 0)) throw unusable("an embedding is all zeros");
  return vector;
}

function unusable(why: string): Error {
  return providerUnavailable(`The embedding provider's reply cannot be used: ${why}.`);
}

/**
 * Throws unless every vector has the configured dimensions or, if none are configured, those of the first
 * vector.
 */
function checkLengths(
  vectors: readonly Float32Array[],
  dimensions: number | undefined,
  model: string,
  prefix: string,
): void {
  const expected = dimensions ?? vectors[0]?.length;
  const other = vectors.find((vector) => vector.length !== expected);
  if (other === undefined) return;
  if (dimensions === undefined)
    throw unusable(`its embeddings have ${expected} and ${other.length} dimensions`);
  throw failedPrecondition(
    "DIMENSION_MISMATCH",
    `The embedding model '${model}' returned ${other.length} dimensions, but ${prefix}DIMENSIONS is ${dimensions}. ` +
      `Set ${prefix}DIMENSIONS to ${other.length}, or configure a model with ${dimensions} dimensions.`,
  );
}
