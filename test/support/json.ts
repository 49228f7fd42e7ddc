import { expect } from "vitest";

/** The JSON of a reply; a test says what it expects in it. */
export type Json = Record<string, unknown>;

/** Sends a request with a key and JSON's content type. A body that is a text is sent as it is. */
export type Send = (
  method: string,
  path: string,
  body?: unknown,
  headers?: Record<string, string>,
) => Promise<{ status: number; headers: Headers; json: Json }>;

/** A client of the server at `url`, of which it expects JSON in every reply. */
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

/** Adds texts, to be embedded by the service. */
export async function addTexts(send: Send, store: string, contents: string[]): Promise<void> {
  const embeddings = contents.map((content) => ({ content }));
  const { status } = await send("POST", `/v1/vector_stores/${store}/embeddings/batch`, { embeddings });
  expect(status).toBe(200);
}
