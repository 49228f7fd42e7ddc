import { createReadStream } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI, { BadRequestError, NotFoundError, toFile } from "openai";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { noise } from "../support/stores/noise.ts";
import { startServer } from "../support/servers/server.ts";

const server = await startServer();
const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "unused", maxRetries: 0 });
afterAll(() => server[Symbol.asyncDispose]());

/** Uploads bytes for assistants. */
async function upload(bytes: Uint8Array, name = "notes.txt") {
  return client.files.create({ file: await toFile(bytes, name), purpose: "assistants" });
}

async function download(id: string): Promise<Buffer> {
  return Buffer.from(await (await client.files.content(id)).arrayBuffer());
}

test("a file is stored, described, read and deleted", async () => {
  const before = Math.floor(Date.now() / 1000);
  const file = await upload(Buffer.from("hello"));
  expect(file).toEqual({
    id: expect.stringMatching(/^file-[0-9a-f]{32}$/),
    object: "file",
    bytes: 5,
    created_at: expect.any(Number),
    expires_at: null,
    filename: "notes.txt",
    purpose: "assistants",
    status: "processed",
    status_details: null,
  });
  expect(file.created_at).toBeGreaterThanOrEqual(before);
  expect(file.created_at).toBeLessThanOrEqual(Date.now() / 1000);
  expect(await client.files.retrieve(file.id)).toEqual(file);
  expect(await client.files.waitForProcessing(file.id)).toEqual(file);
  const content = await client.files.content(file.id);
  expect(content.headers.get("content-type")).toBe("application/octet-stream");
  expect(await content.text()).toBe("hello");
  expect(await client.files.delete(file.id)).toEqual({ id: file.id, object: "file", deleted: true });
  for (const call of [
    () => client.files.retrieve(file.id),
    () => client.files.content(file.id),
    () => client.files.delete(file.id),
  ]) {
    const failure = await call().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(NotFoundError);
    expect(failure).toMatchObject({
      param: "file_id",
      code: null,
      message: `404 No such File object: ${file.id}`,
    });
  }
});

test.each([0, 1, 64 * 1024, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 512 * 1024, 3_500_000])(
  "a file of %i bytes comes back as it was",
  async (length) => {
    const bytes = noise(length);
    const file = await upload(bytes, "noise.bin");
    expect(file.bytes).toBe(length);
    expect((await download(file.id)).equals(bytes)).toBe(true);
  },
);

test("a file is uploaded from a stream on disk, and from another answer", async () => {
  const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  const bytes = noise(2_000_000);
  await writeFile(join(directory, "report.pdf"), bytes);
  const file = await client.files.create({
    file: createReadStream(join(directory, "report.pdf")),
    purpose: "user_data",
  });
  expect(file).toMatchObject({ filename: "report.pdf", purpose: "user_data", bytes: bytes.length });
  const copy = await client.files.create({
    file: await toFile(await client.files.content(file.id), "copy.pdf"),
    purpose: "user_data",
  });
  expect((await download(copy.id)).equals(bytes)).toBe(true);
});

test("names keep their letters and lose their folders", async () => {
  for (const [name, kept] of [
    ["Übersicht – 概要 🚀.md", "Übersicht – 概要 🚀.md"],
    ['a "quoted" 100% (1).txt', 'a "quoted" 100% (1).txt'],
    ["../../etc/passwd", "passwd"],
    ["C:\\Users\\me\\letter.doc", "letter.doc"],
    ["two\r\nlines\u0007.txt", "twolines.txt"],
  ] as const) {
    const file = await upload(Buffer.from("x"), name);
    expect(file.filename).toBe(kept);
    const { headers } = await client.files.content(file.id);
    const [, encoded = ""] = /filename\*=UTF-8''(\S+)$/.exec(headers.get("content-disposition") ?? "") ?? [];
    expect(decodeURIComponent(encoded)).toBe(kept);
  }
});

test("the list is complete, in order, by purpose, and goes on after a file", async () => {
  const made: string[] = [];
  for (const purpose of ["evals", "batch", "evals", "evals"] as const)
    made.push((await client.files.create({ file: await toFile(Buffer.from("x"), "a"), purpose })).id);
  const [first, , third, fourth] = made;
  const ids = (page: { data: { id: string }[] }) => page.data.map(({ id }) => id);
  expect(ids(await client.files.list({ purpose: "evals" }))).toEqual([fourth, third, first]);
  expect(ids(await client.files.list({ purpose: "evals", order: "asc" }))).toEqual([first, third, fourth]);
  const page = await client.files.list({ purpose: "evals", limit: 2 });
  expect(ids(page)).toEqual([fourth, third]);
  expect(ids(await page.getNextPage())).toEqual([first]);
  const walked: string[] = [];
  for await (const { id } of client.files.list({ limit: 1, order: "asc", purpose: "evals" })) {
    walked.push(id);
    // The walk goes on after a file that is no more.
    await client.files.delete(id);
  }
  expect(walked).toEqual([first, third, fourth]);
  expect(ids(await client.files.list())).toContain(made[1]);
});

test.each([
  [{ limit: 0 }, "limit"],
  [{ limit: 10_001 }, "limit"],
  [{ after: "file-unknown" }, "after"],
  [{ order: "sideways" as "asc" }, "order"],
  [{ before: "file-1" } as object, "before"],
])("the list refuses %j", async (query, param) => {
  const call = client.files.list(query);
  await expect(call).rejects.toThrow(BadRequestError);
  await expect(call).rejects.toMatchObject({ param });
});

test("a file may expire", async () => {
  const file = await client.files.create({
    file: await toFile(Buffer.from("x"), "a.txt"),
    purpose: "assistants",
    expires_after: { anchor: "created_at", seconds: 3600 },
  });
  expect(file.expires_at).toBe(file.created_at + 3600);
  await server.database.pool.query(
    "update pgquiver_files set expires_at = now() - interval '1 second' where id = $1",
    [file.id],
  );
  await expect(client.files.retrieve(file.id)).rejects.toThrow(NotFoundError);
  await expect(client.files.content(file.id)).rejects.toThrow(NotFoundError);
  await expect(client.files.delete(file.id)).rejects.toThrow(NotFoundError);
  expect((await client.files.list()).data.map(({ id }) => id)).not.toContain(file.id);
});

test.each([
  [{ purpose: "fun" as "evals" }, "purpose", "invalid_value"],
  [
    { expires_after: { anchor: "now" as "created_at", seconds: 3600 } },
    "expires_after.anchor",
    "invalid_value",
  ],
  [
    { expires_after: { anchor: "created_at" } as { anchor: "created_at"; seconds: number } },
    "expires_after.seconds",
    "missing_required_parameter",
  ],
  [
    { expires_after: { anchor: "created_at" as const, seconds: 0 } },
    "expires_after.seconds",
    "integer_below_min_value",
  ],
  [
    { expires_after: { anchor: "created_at" as const, seconds: 3599 } },
    "expires_after.seconds",
    "integer_below_min_value",
  ],
  [
    { expires_after: { anchor: "created_at" as const, seconds: 2_592_001 } },
    "expires_after.seconds",
    "integer_above_max_value",
  ],
  [
    { expires_after: { anchor: "created_at" as const, seconds: "soon" as unknown as number } },
    "expires_after.seconds",
    "invalid_type",
  ],
  [{ colour: "red" } as object, "colour", "unknown_parameter"],
])("an upload with %j is refused and stores nothing", async (fields, param, code) => {
  const { data: before } = await client.files.list();
  const file = await toFile(noise(600_000), "a.txt");
  const call = client.files.create({ file, purpose: "assistants", ...fields });
  await expect(call).rejects.toThrow(BadRequestError);
  await expect(call).rejects.toMatchObject({ param, code });
  expect((await client.files.list()).data).toEqual(before);
  const { rows } = await server.database.pool.query(
    "select count(*) filter (where state <> 'ready')::int as unfinished from pgquiver_files",
  );
  expect(rows).toEqual([{ unfinished: 0 }]);
});
