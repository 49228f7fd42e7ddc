import { APIConnectionError, APIConnectionTimeoutError, APIError, OpenAI } from "openai";
import {
  deadlineExceeded,
  failedPrecondition,
  invalidArgument,
  rateLimited,
  unavailable,
} from "../errors.ts";
import { mapConcurrently, Semaphore } from "../api/concurrency.ts";
import type { Embedder, Embeddings } from "./embedder.ts";

/** Where the embeddings come from, and how hard the provider may be pressed. */
export interface OpenAIEmbedderOptions {
  /**
   * The provider's base URL. Without a path, `/v1` is appended: LiteLLM, OpenAI, vLLM and Ollama all serve
   * it; should the provider not know that URL, the bare one is tried. With a path it is used as written.
   */
  baseUrl: string;
  /** The bearer key; empty for a provider that wants none. */
  apiKey: string;
  /** The model's name. A leading `openai/` or `litellm_proxy/`, LiteLLM's routing prefixes, is dropped. */
  model: string;
  /** The length every vector must have; undefined takes the length that comes. */
  dimensions: number | undefined;
  /**
   * Whether `dimensions` is sent. "auto" sends it to `text-embedding-3` models: LiteLLM answers an error for
   * others, and an installation of litellm-pgvector has it set, never sent, beside any model.
   */
  sendDimensions: "auto" | boolean;
  /** The `encoding_format` sent. "omit" sends none: several providers refuse any. All reply forms are read. */
  encodingFormat: "omit" | "float" | "base64";
  /** Texts in one request; OpenAI takes 2,048, local servers far fewer. */
  batchTextsMax: number;
  /** Requests in flight at once, over all calls of this embedder. */
  concurrency: number;
  /** For each attempt, to the last byte of the reply. At most 300,000, where Node's fetch gives up itself. */
  timeoutMs: number;
  /** Attempts after the first, after a Retry-After of up to a minute, or 0.5 s, 1 s, 2 s, ... up to 8 s. */
  retriesMax: number;
}

/**
 * UTF-8 bytes of the texts in one request. OpenAI takes 300,000 tokens, and byte-level BPE makes at most one
 * token a byte. The usual four bytes a token is no bound (cl100k_base: prose 3.9, code 4.3, Hindi 2.7,
 * hex 1.8, base64 1.4, blank lines 1.0), and requests of 75,000 tokens are large enough to fill any rate limit.
 */
const REQUEST_BYTES_MAX = 300_000;

/** Characters of a provider's own words that are passed on. */
const PROVIDER_TEXT_CHARS_MAX = 500;

/** The wait proposed to a caller when the provider proposes none, and the longest one passed on. */
const RETRY_AFTER_DEFAULT_MS = 1_000;
const RETRY_AFTER_MAX_MS = 60_000;

/** An embedder over any provider of OpenAI's `POST /embeddings`. */
export function createOpenAIEmbedder(options: OpenAIEmbedderOptions): Embedder {
  const { dimensions, concurrency, batchTextsMax } = options;
  const model = options.model.replace(/^(?:openai|litellm_proxy)\//, "");
  const sendsDimensions =
    options.sendDimensions === "auto" ? model.includes("text-embedding-3") : options.sendDimensions;
  const settings = {
    model,
    ...(options.encodingFormat === "omit" ? {} : { encoding_format: options.encodingFormat }),
    ...(sendsDimensions && dimensions !== undefined ? { dimensions } : {}),
  };
  const post = createPost(options);
  const requests = new Semaphore(concurrency);

  async function embedBatch(texts: readonly string[], signal: AbortSignal): Promise<Embeddings> {
    using _ = await requests.acquire(signal);
    const reply = await post({ ...settings, input: texts }, signal);
    const embeddings = readReply(reply, texts.length);
    checkLengths(embeddings.vectors, dimensions, model);
    return embeddings;
  }

  return {
    model,
    dimensions,
    async embed(texts, signal) {
      const batches = splitTexts(texts, batchTextsMax);
      const replies = await mapConcurrently(batches, concurrency, embedBatch, signal);
      const vectors = replies.flatMap((reply) => reply.vectors);
      checkLengths(vectors, dimensions, model);
      return { vectors, tokens: replies.reduce((sum, reply) => sum + reply.tokens, 0) };
    },
  };
}

/** Cuts the texts into requests, by count and by size. A text that is too large alone is the provider's to judge. */
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

/** One request to the provider, with its retries; failures are already in our currency. */
function createPost(options: OpenAIEmbedderOptions): (body: object, signal: AbortSignal) => Promise<unknown> {
  const { apiKey, baseUrl } = options;
  const client = new OpenAI({
    // The service's own clients present OPENAI_API_KEY. So no option is left to the SDK's environment variables.
    apiKey: apiKey === "" ? "none" : apiKey,
    adminAPIKey: null,
    organization: null,
    project: null,
    webhookSecret: null,
    baseURL: baseUrl,
    logLevel: "off",
    timeout: options.timeoutMs,
    maxRetries: options.retriesMax,
    defaultHeaders: { "user-agent": "pgquiver", ...(apiKey === "" && { authorization: null }) },
    fetch: (url, init) => fetchWhole(url, init, apiKey),
  });
  const bare = new URL(baseUrl).pathname === "/";
  const alternative = bare ? endpointUrl(baseUrl, "/embeddings") : undefined;
  let endpoint = endpointUrl(baseUrl, bare ? "/v1/embeddings" : "/embeddings");

  return async (body, signal) => {
    const tried = endpoint;
    try {
      // Not `embeddings.create`, which adds `encoding_format: "base64"` and decodes without a check.
      return await client.post<unknown>(tried, { body, signal });
    } catch (error) {
      if (alternative === undefined || tried === alternative || !isUnknownUrl(error)) {
        throw toError(error, options.timeoutMs);
      }
      try {
        const reply = await client.post<unknown>(alternative, { body, signal });
        endpoint = alternative;
        return reply;
      } catch (second) {
        throw toError(isUnknownUrl(second) ? error : second, options.timeoutMs);
      }
    }
  };
}

function endpointUrl(baseUrl: string, path: string): string {
  const url = new URL(baseUrl);
  url.pathname = url.pathname.replace(/\/+$/, "") + path;
  return url.href;
}

/** A 404 for the URL itself; providers answer 404 for a model they do not have, too, and name it. */
function isUnknownUrl(error: unknown): boolean {
  return error instanceof APIError && error.status === 404 && !/model/i.test(error.message);
}

/**
 * The fetch under the SDK, which reads the whole body: the SDK retries a request that fails, but not one whose reply
 * breaks off. The provider's own words are freed of the key.
 */
async function fetchWhole(
  url: string | URL | Request,
  init: RequestInit | undefined,
  apiKey: string,
): Promise<Response> {
  // A redirect would carry the texts, and on the same host the key, to where the operator did not send them.
  const response = await fetch(url, { ...init, redirect: "error" });
  if (response.ok) return new Response(await response.arrayBuffer(), response);
  let text = await response.text();
  if (apiKey !== "") text = text.replaceAll(apiKey, "***");
  // LiteLLM reports a parameter that its model does not take as a fault of the server, which would be retried.
  const status = text.includes("UnsupportedParamsError") ? 400 : response.status;
  return new Response(text, { status, headers: response.headers });
}

/** What the SDK threw, as an error for the caller. */
function toError(error: unknown, timeoutMs: number): Error {
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
        "The embedding provider refused the service's key (EMBEDDING__API_KEY).",
        error,
      );
    case 429:
      return rateLimited(`The embedding provider is over its limit: ${text}`, retryAfterMs(headers));
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

/** `retryAfterMs` is given where trying again can help. */
function providerUnavailable(message: string, cause?: unknown, retryAfterMs?: number): Error {
  return unavailable("EMBEDDING_PROVIDER_UNAVAILABLE", message, {
    cause,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** RFC 9110 section 10.2.3, seconds or a date, after OpenAI's own finer header. */
function retryAfterMs(headers: Headers | undefined): number {
  const finer = headers?.get("retry-after-ms");
  const plain = headers?.get("retry-after");
  let delayMs = Number.NaN;
  if (finer) delayMs = Number(finer);
  else if (plain)
    delayMs = Number.isNaN(Number(plain)) ? Date.parse(plain) - Date.now() : Number(plain) * 1000;
  return delayMs >= 0 ? Math.min(delayMs, RETRY_AFTER_MAX_MS) : RETRY_AFTER_DEFAULT_MS;
}

/** The vectors of a reply, put in the order of its indexes; a reply without any index is in order. */
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

/** A vector as an array of numbers, or as base64 of little-endian float32. */
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

/** Every vector has the configured length, or, with none configured, the length of the first. */
function checkLengths(vectors: readonly Float32Array[], dimensions: number | undefined, model: string): void {
  const expected = dimensions ?? vectors[0]?.length;
  const other = vectors.find((vector) => vector.length !== expected);
  if (other === undefined) return;
  if (dimensions === undefined)
    throw unusable(`its embeddings have ${expected} and ${other.length} dimensions`);
  throw failedPrecondition(
    "DIMENSION_MISMATCH",
    `The embedding model '${model}' returned ${other.length} dimensions, but EMBEDDING__DIMENSIONS is ${dimensions}. ` +
      `Set EMBEDDING__DIMENSIONS to ${other.length}, or configure the model that makes ${dimensions}.`,
  );
}
