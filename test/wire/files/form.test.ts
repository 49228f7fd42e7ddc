import { afterAll, afterEach, expect, test } from "vitest";
import {
  FORM_BOUNDARY,
  FORM_TYPE,
  filePart,
  form,
  textPart,
  type FormPart,
} from "../../support/clients/form.ts";
import { expectError, send } from "../../support/clients/http.ts";
import { noise } from "../../support/stores/noise.ts";
import { startServer } from "../../support/servers/server.ts";

const FILE_BYTES_MAX = 1_000_000;
const server = await startServer({ files: { bytesMax: FILE_BYTES_MAX } });
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

const purpose = textPart("purpose", "assistants");

async function upload(body: Buffer<ArrayBuffer>, headers: Record<string, string> = FORM_TYPE) {
  return send(`${server.url}/v1/files`, "POST", body, headers);
}

async function uploaded(...parts: FormPart[]) {
  const answer = await upload(form(...parts));
  expect(answer.text).toContain('"id"');
  return JSON.parse(answer.text) as Record<string, unknown>;
}

async function countRows() {
  const { rows } = await pool.query(
    "select (select count(*)::int from pgquiver_files) as files, (select count(*)::int from pgquiver_file_parts) as parts",
  );
  return rows[0] as { files: number; parts: number };
}

afterEach(() => pool.query("truncate pgquiver_files, pgquiver_file_parts"));

test("the parts come in any order", async () => {
  const seconds = textPart("expires_after[seconds]", "7200");
  const anchor = textPart("expires_after[anchor]", "created_at");
  const file = filePart("hello");
  for (const parts of [
    [file, purpose, anchor, seconds],
    [seconds, purpose, anchor, file],
    [purpose, seconds, file, anchor],
  ]) {
    const made = await uploaded(...parts);
    expect(made).toMatchObject({ bytes: 5, filename: "a.txt", purpose: "assistants" });
    expect(Number(made["expires_at"]) - Number(made["created_at"])).toBe(7200);
  }
  expect(await countRows()).toEqual({ files: 3, parts: 3 });
});

test.each([
  ['filename="Grüße.txt"', "Grüße.txt"],
  ["filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%F0%9F%9A%80.txt", "Grüße 🚀.txt"],
  ['filename="a \\"b\\".txt"', 'a "b".txt'],
  ['filename="a %22b%22 50%.txt"', 'a "b" 50%.txt'],
  ['filename="/tmp/x/y.txt"', "y.txt"],
  ['filename="C:\\\\fakepath\\\\y.txt"', "y.txt"],
  ["filename=plain.txt", "plain.txt"],
])("a part with %s has the name %s", async (parameters, name) => {
  expect(await uploaded(filePart("x", parameters), purpose)).toMatchObject({ filename: name });
});

test("a name in the two forms of .NET's clients is the whole one", async () => {
  const headers = `Content-Disposition: form-data; name=file; filename="=?utf-8?B?w7wudHh0?="; filename*=utf-8''%C3%BC.txt`;
  expect(await uploaded({ headers, body: "x" }, purpose)).toMatchObject({ filename: "ü.txt" });
});

test("bytes that look like the end of a part are kept", async () => {
  const body = `\r\n--${FORM_BOUNDARY.slice(0, -1)}\r\n\r\n--\r\n${"-".repeat(1000)}\r\n`;
  const { id } = await uploaded(purpose, filePart(body));
  expect((await send(`${server.url}/v1/files/${String(id)}/content`, "GET")).text).toBe(body);
});

test.each<[string, FormPart[], { param: string | null; code: string }]>([
  ["no file", [purpose], { param: "file", code: "missing_required_parameter" }],
  ["nothing", [], { param: "file", code: "missing_required_parameter" }],
  ["no purpose", [filePart("x")], { param: "purpose", code: "missing_required_parameter" }],
  [
    "an empty purpose",
    [filePart("x"), textPart("purpose", "")],
    { param: "purpose", code: "missing_required_parameter" },
  ],
  ["two files", [filePart("x"), filePart("y"), purpose], { param: "file", code: "invalid_value" }],
  ["two purposes", [purpose, filePart("x"), purpose], { param: "purpose", code: "invalid_value" }],
  ["a text for the file", [textPart("file", "a.txt"), purpose], { param: "file", code: "invalid_type" }],
  [
    "an unknown text",
    [filePart("x"), purpose, textPart("model", "x")],
    { param: "model", code: "unknown_parameter" },
  ],
  [
    "an unknown file",
    [{ headers: 'Content-Disposition: form-data; name="image"; filename="a.png"', body: "x" }, purpose],
    { param: "image", code: "unknown_parameter" },
  ],
  [
    "half an expiry",
    [filePart("x"), purpose, textPart("expires_after[seconds]", "3600")],
    { param: "expires_after.anchor", code: "missing_required_parameter" },
  ],
  [
    "an expiry as JSON",
    [filePart("x"), purpose, textPart("expires_after", '{"anchor":"created_at"}')],
    { param: "expires_after", code: "invalid_type" },
  ],
  [
    "an unknown key of the expiry",
    [filePart("x"), purpose, textPart("expires_after[__proto__]", "1")],
    { param: "expires_after.__proto__", code: "unknown_parameter" },
  ],
  [
    "a long text",
    [filePart("x"), textPart("purpose", "x".repeat(5000))],
    { param: "purpose", code: "string_above_max_length" },
  ],
  [
    "a long name",
    [filePart("x", `filename="${"x".repeat(1025)}"`), purpose],
    { param: "filename", code: "string_above_max_length" },
  ],
  [
    "a name that is a folder",
    [filePart("x", 'filename="a/.."'), purpose],
    { param: "filename", code: "missing_required_parameter" },
  ],
  ["many parts", Array.from({ length: 20 }, () => purpose), { param: "purpose", code: "invalid_value" }],
])("a form with %s is refused", async (_, parts, error) => {
  expectError(await upload(form(...parts)), 400, error);
  expect(await countRows()).toEqual({ files: 0, parts: 0 });
});

test.each([
  [{ "content-type": "application/json" }, '{"purpose": "assistants"}'],
  [{ "content-type": "application/x-www-form-urlencoded" }, "purpose=assistants"],
  [{ "content-type": "multipart/mixed; boundary=x" }, "--x--"],
  [{}, "--x--"],
  [{}, ""],
])("a body with the headers %j is no form", async (headers: Record<string, string>, body) => {
  expectError(await upload(Buffer.from(body), headers), 415, {
    code: "invalid_request",
    message: "Unsupported content type: send the body as multipart/form-data.",
  });
});

test.each([
  ["multipart/form-data", "--x--"],
  ["multipart/form-data; boundary=", "--x--"],
  ["multipart/form-data; boundary=x", "no boundary in it"],
  ["multipart/form-data; boundary=x", ""],
])("a body of type %s is refused", async (type, body) => {
  expectError(await upload(Buffer.from(body), { "content-type": type }), 400, { code: "invalid_request" });
});

test("a form that is cut anywhere is refused at once and stores nothing", async () => {
  const whole = form(filePart(noise(300)), purpose);
  for (let length = 0; length < whole.length - 4; length += length < 200 ? 7 : 23)
    expectError(await upload(whole.subarray(0, length)), 400, { code: "invalid_request" });
  for (const length of [whole.length - 4, whole.length - 3])
    expectError(await upload(whole.subarray(0, length)), 400, { code: "invalid_request" });
  expect(await countRows()).toEqual({ files: 0, parts: 0 });
});

test("noise in the place of headers is refused", async () => {
  for (const headers of [
    "",
    "x",
    noise(100).toString("latin1"),
    "Content-Disposition: form-data",
    `X: ${"x".repeat(100_000)}`,
  ])
    expectError(await upload(form({ headers, body: "x" }, purpose)), 400);
});

test("a file may be as large as the limit, and not larger", async () => {
  const made = await uploaded(filePart(noise(FILE_BYTES_MAX)), purpose);
  expect(made["bytes"]).toBe(FILE_BYTES_MAX);
  for (const bytes of [FILE_BYTES_MAX + 1, 5 * FILE_BYTES_MAX]) {
    const answer = await upload(form(filePart(noise(bytes)), purpose));
    expectError(answer, 413, { param: "file", code: "request_too_large" });
  }
  expect(await countRows()).toEqual({ files: 1, parts: 4 });
});
