import { ConnectError } from "@connectrpc/connect";
import { expect } from "vitest";
import type { Embedder } from "../../../src/models/embedder.ts";
import { createOpenAIEmbedder } from "../../../src/models/openai.ts";
import type { OpenAIEmbedderOptions } from "../../../src/models/openai.ts";
import { describeError } from "../../../src/errors.ts";

/** The API key of `embedderAt`, which no error may reveal. */
export const KEY = "sk-secret-0123456789";
/** A signal that is never aborted. */
export const never = new AbortController().signal;

/** Creates an embedder without retries; `options` override its settings. */
export function embedderAt(baseUrl: string, options: Partial<OpenAIEmbedderOptions> = {}): Embedder {
  return createOpenAIEmbedder({
    baseUrl,
    apiKey: KEY,
    model: "test-embedding",
    dimensions: undefined,
    sendDimensions: "auto",
    encodingFormat: "omit",
    batchTextsMax: 100,
    concurrency: 4,
    timeoutMs: 10_000,
    retriesMax: 0,
    ...options,
  });
}

/** Returns the error of a call that must fail: code, message, cause and details. */
export async function failureOf(call: Promise<unknown>) {
  const error = await call.then(
    () => expect.unreachable("the call succeeded"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof ConnectError)) throw error;
  return { code: error.code, message: error.rawMessage, cause: error.cause, ...describeError(error) };
}
