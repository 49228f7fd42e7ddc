import { once } from "node:events";
import { connect } from "node:net";
import OpenAI, { toFile } from "openai";
import { afterAll, expect, test, vi } from "vitest";
import { expectError, send } from "../../support/clients/http.ts";
import { noise } from "../../support/stores/noise.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "unused", maxRetries: 0 });
afterAll(() => server[Symbol.asyncDispose]());

/** Over two parts. */
const bytes = noise(300_000);
const LENGTH = bytes.length;

async function upload(content: Uint8Array, name = "noise.bin") {
  return client.files.create({ file: await toFile(content, name), purpose: "assistants" });
}
const { id } = await upload(bytes);
const { id: emptyId } = await upload(Buffer.alloc(0), "empty.txt");

async function get(range?: string, verb = "GET", headers: Record<string, string> = {}, of = id) {
  const reply = await fetch(`${server.url}/v1/files/${of}/content`, {
    method: verb,
    headers: { ...(range !== undefined && { range }), ...headers },
  });
  return { status: reply.status, headers: reply.headers, body: Buffer.from(await reply.arrayBuffer()) };
}

test("the whole file has its length, its name and a tag", async () => {
  const { status, headers, body } = await get();
  expect(status).toBe(200);
  expect(body.equals(bytes)).toBe(true);
  expect(Object.fromEntries(headers)).toMatchObject({
    "content-length": String(LENGTH),
    "content-type": "application/octet-stream",
    "content-disposition": `attachment; filename="noise.bin"; filename*=UTF-8''noise.bin`,
    "accept-ranges": "bytes",
    "x-content-type-options": "nosniff",
    etag: `"${id}"`,
  });
  expect(headers.get("content-range")).toBeNull();
});

test.each([
  ["bytes=0-0", 0, 1],
  ["bytes=0-99", 0, 100],
  ["bytes=262143-262144", 262_143, 262_145],
  ["bytes=262144-262144", 262_144, 262_145],
  ["bytes=299999-", 299_999, LENGTH],
  ["bytes=1-", 1, LENGTH],
  ["bytes=0-", 0, LENGTH],
  ["bytes=299999-999999", 299_999, LENGTH],
  ["bytes=-1", 299_999, LENGTH],
  ["bytes=-50000", 250_000, LENGTH],
  ["bytes=-999999", 0, LENGTH],
  ["Bytes=5-6", 5, 7],
])("%s gives that part", async (range, start, end) => {
  const { status, headers, body } = await get(range);
  expect(status).toBe(206);
  expect(headers.get("content-range")).toBe(`bytes ${start}-${end - 1}/${LENGTH}`);
  expect(headers.get("content-length")).toBe(String(end - start));
  expect(body.equals(bytes.subarray(start, end))).toBe(true);
});

test.each(["bytes=300000-", "bytes=300000-300001", "bytes=999999999999999-", "bytes=-0"])(
  "%s is not within the file",
  async (range) => {
    const answer = await send(`${server.url}/v1/files/${id}/content`, "GET", undefined, { range });
    expectError(answer, 416, { param: "offset", code: "range_not_satisfiable" });
    expect(answer.headers.get("content-range")).toBe(`bytes */${LENGTH}`);
  },
);

test.each(["bytes=0-1,5-6", "bytes=6-5", "bytes=a-b", "bytes=-", "lines=0-1", "bytes=1-2-3", ""])(
  "%j asks for nothing that can be given, and gets the whole",
  async (range) => {
    const { status, body } = await get(range);
    expect(status).toBe(200);
    expect(body.length).toBe(LENGTH);
  },
);

test("a range for another version of the file gives the whole", async () => {
  expect(await get("bytes=0-1", "GET", { "if-range": `"${id}"` })).toMatchObject({ status: 206 });
  expect(await get("bytes=0-1", "GET", { "if-range": '"other"' })).toMatchObject({ status: 200 });
});

test("HEAD answers as GET does, without the bytes", async () => {
  for (const range of [undefined, "bytes=5-9"]) {
    const whole = await get(range);
    const head = await get(range, "HEAD");
    expect(head.status).toBe(whole.status);
    expect(head.body).toHaveLength(0);
    for (const name of ["content-length", "content-range", "content-disposition", "etag"])
      expect(head.headers.get(name)).toBe(whole.headers.get(name));
  }
});

test("an empty file is empty, and none of its bytes is there", async () => {
  expect(await get(undefined, "GET", {}, emptyId)).toMatchObject({ status: 200, body: Buffer.alloc(0) });
  expect(await get("bytes=0-", "GET", {}, emptyId)).toMatchObject({ status: 200 });
  expect(await get("bytes=1-", "GET", {}, emptyId)).toMatchObject({ status: 416 });
});

test("a file that is not there has no content", async () => {
  for (const unknown of ["file-unknown", "%00"])
    expectError(await send(`${server.url}/v1/files/${unknown}/content`, "GET"), 404, { param: "file_id" });
});

test("a download that is given up stops reading, and the rest of the service goes on", async () => {
  const large = await upload(noise(20_000_000));
  const query = vi.spyOn(server.database.pool, "connect");
  const { port, hostname } = new URL(server.url);
  const socket = connect(Number(port), hostname);
  socket.write(`GET /v1/files/${large.id}/content HTTP/1.1\r\nhost: x\r\n\r\n`);
  await once(socket, "data");
  socket.pause();
  // Until the buffers in between are full, parts are read; then no more.
  await vi.waitFor(async () => {
    const before = query.mock.calls.length;
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(query.mock.calls.length).toBe(before);
  }, 60_000);
  expect(query.mock.calls.length).toBeLessThan(20_000_000 / 262_144);
  const before = query.mock.calls.length;
  socket.destroy();
  expect((await get()).body).toHaveLength(LENGTH);
  expect(query.mock.calls.length - before).toBeLessThan(10);
  query.mockRestore();
});

test("a file that is deleted during a download cuts it rather than to end it early", async () => {
  const large = await upload(noise(20_000_000));
  const reply = await fetch(`${server.url}/v1/files/${large.id}/content`);
  await client.files.delete(large.id);
  await expect(reply.arrayBuffer()).rejects.toThrow();
});
