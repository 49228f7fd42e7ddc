import { expect } from "vitest";

/** An answer with its body read. */
export interface HttpAnswer {
  status: number;
  headers: Headers;
  text: string;
}

/** Sends a request as it is given: a body that is text or bytes goes out unchanged, labelled as JSON unless told. */
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

/** Expects OpenAI's error body and the headers that go with it, to the letter; `expected` adds to it. */
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
