import { expect } from "vitest";

/** The JSON of a reply, which the tests check. */
export type Json = Record<string, unknown>;

/**
 * Sends a request with an API key and the content type of JSON. A body that is a string is sent unchanged.
 */
export type Send = (
  method: string,
  path: string,
  body?: unknown,
  headers?: Record<string, string>,
) => Promise<{ status: number; headers: Headers; json: Json }>;

/** Creates a client of the server at `url`; every reply must be JSON. */
export function jsonClient(url: string, key = "any"): Send {
  return async (method, path, body, headers = {}) => {
    const response = await fetch(url + path, {
      method,
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    return {
      status: response.status,
      headers: response.headers,
      json: (await response.json()) as Json,
    };
  };
}

/** Creates a store and returns its id. */
export async function createStore(send: Send, body: object = {}): Promise<string> {
  const { json } = await send("POST", "/v1/vector_stores", body);
  return String(json["id"]);
}

/** Adds texts, which the service embeds. */
export async function addTexts(send: Send, store: string, contents: string[]): Promise<void> {
  const embeddings = contents.map((content) => ({ content }));
  const { status } = await send("POST", `/v1/vector_stores/${store}/embeddings/batch`, { embeddings });
  expect(status).toBe(200);
}
