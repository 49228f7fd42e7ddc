import { expect } from "vitest";

/** A response, with its body as text. */
export interface HttpAnswer {
  status: number;
  headers: Headers;
  text: string;
}

/** Sends a request. A body of text or bytes is sent unchanged, by default with the content type of JSON. */
export async function send(
  url: string,
  verb: string,
  body?: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = body === undefined ? {} : { "content-type": "application/json" },
): Promise<HttpAnswer> {
  const reply = await fetch(url, { method: verb, headers, body: body ?? null });
  return { status: reply.status, headers: reply.headers, text: await reply.text() };
}

const TYPES: Record<number, string> = { 401: "authentication_error", 429: "rate_limit_error" };

/** Expects exactly OpenAI's error body and the headers that belong to it; `expected` has further fields. */
export function expectError(
  { status, headers, text }: HttpAnswer,
  expectedStatus: number,
  expected: { param?: string | null; code?: string | null; message?: unknown } = {},
): void {
  expect(`${status} ${text}`).toMatch(new RegExp(`^${expectedStatus} `));
  expect(headers.get("content-type")).toMatch(/^application\/json(; charset=utf-8)?$/);
  expect(headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
  expect(headers.get("x-should-retry")).toBe("false");
  expect(JSON.parse(text)).toEqual({
    error: {
      message: expect.stringMatching(/\w/),
      type: TYPES[status] ?? "invalid_request_error",
      param: expect.toSatisfy((param) => param === null || typeof param === "string"),
      code: expect.toSatisfy((code) => code === null || typeof code === "string"),
    },
  });
  expect(JSON.parse(text)).toMatchObject({ error: expected });
}
