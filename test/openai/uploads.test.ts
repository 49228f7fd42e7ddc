import { createHash } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import OpenAI, { BadRequestError, NotFoundError, RateLimitError, toFile } from "openai";
import { afterAll, expect, inject, test } from "vitest";
import { FileService } from "../../gen/pgquiver/v1/files_pb.ts";
import { removeLeftovers } from "../../src/files/leftovers.ts";
import { Buckets } from "../../src/files/buckets.ts";
import { limits } from "../../src/limits.ts";
import { openTestDatabase } from "../support/databases/database.ts";
import { makeProject, makeTestKey } from "../support/stores/keys.ts";
import { noise } from "../support/stores/noise.ts";
import { start } from "../support/servers/process.ts";
import { startServer } from "../support/servers/server.ts";

const root = "a-key-of-the-environment";
const database = await openTestDatabase();
const server = await startServer({ database, apiKeys: [root] });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
});
const clientWith = (apiKey: string, url = server.url) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const client = clientWith(root);

const begin = (bytes: number, by = client) =>
  by.uploads.create({ bytes, filename: "näme.txt", mime_type: "text/plain", purpose: "assistants" });

const addPart = async (id: string, bytes: Uint8Array, by = client) =>
  by.uploads.parts.create(id, { data: await toFile(bytes, "part") });

const md5 = (bytes: Uint8Array) => createHash("md5").update(bytes).digest("hex");

/** Rows of parts and of their bytes that are left, of files that are none. */
async function leftovers(): Promise<number> {
  const { rows } = await database.pool.query<{ count: number }>(
    `select (select count(*) from pgquiver_files where state <> 'ready')::int
       + (select count(*) from pgquiver_file_parts where file_id not in (select id from pgquiver_files))::int as count`,
  );
  return rows[0]?.count ?? Number.NaN;
}

test("parts that come in any order and at the same time become a file", async () => {
  // No part but one is a multiple of what a row of the table holds.
  const bytes = noise(1_000_000);
  const cuts = [0, 262_144, 262_145, 600_000, 1_000_000];
  const pieces = cuts.slice(1).map((end, n) => bytes.subarray(cuts[n], end));
  const before = Math.floor(Date.now() / 1000);
  const upload = await begin(bytes.length);
  expect(upload).toEqual({
    id: expect.stringMatching(/^upload_[0-9a-f]{32}$/),
    object: "upload",
    bytes: bytes.length,
    created_at: expect.any(Number),
    expires_at: upload.created_at + 3_600,
    filename: "näme.txt",
    purpose: "assistants",
    status: "pending",
    file: null,
  });
  expect(upload.created_at).toBeGreaterThanOrEqual(before);
  const parts = await Promise.all(
    [3, 1, 0, 2].map(async (n) => ({ n, ...(await addPart(upload.id, pieces[n] as Uint8Array)) })),
  );
  expect(parts[0]).toEqual({
    n: 3,
    id: expect.stringMatching(/^part_[0-9a-f]{32}$/),
    object: "upload.part",
    created_at: expect.any(Number),
    upload_id: upload.id,
  });
  const part_ids = parts.toSorted((a, b) => a.n - b.n).map(({ id }) => id);
  // Parts are no files.
  expect((await client.files.list()).data).toEqual([]);
  await expect(client.files.retrieve(String(part_ids[0]))).rejects.toThrow(NotFoundError);
  const completed = await client.uploads.complete(upload.id, { part_ids, md5: md5(bytes) });
  expect(completed).toMatchObject({
    id: upload.id,
    status: "completed",
    file: { object: "file", bytes: bytes.length },
  });
  const { id = "" } = completed.file ?? {};
  expect(await client.files.retrieve(id)).toEqual(completed.file);
  const content = await client.files.content(id);
  expect(Buffer.from(await content.arrayBuffer()).equals(bytes)).toBe(true);
  // A client whose reply was lost asks once more.
  expect(await client.uploads.complete(upload.id, { part_ids })).toEqual(completed);
  expect(await leftovers()).toBe(0);
  await client.files.delete(id);
});

test("parts as long as whole rows of the table become a file without being copied", async () => {
  const bytes = noise(1_400_000);
  const cuts = [0, 524_288, 786_432, 1_400_000];
  const pieces = cuts.slice(1).map((end, n) => bytes.subarray(cuts[n], end));
  const { id } = await begin(bytes.length);
  const part_ids: string[] = [];
  for (const piece of pieces) part_ids.push((await addPart(id, piece)).id);
  // What is out of line stays where it is when a row is updated, and is written anew when it is copied.
  const readPlaces = async () => {
    const { rows } = await database.pool.query<{ ids: string[] }>(
      `select array_agg(distinct chunk_id::text order by chunk_id::text) as ids
       from ${await findToast()}`,
    );
    return rows[0]?.ids;
  };
  const before = await readPlaces();
  await expect(client.uploads.complete(id, { part_ids, md5: md5(Buffer.from("x")) })).rejects.toThrow(
    BadRequestError,
  );
  const { file } = await client.uploads.complete(id, { part_ids, md5: md5(bytes) });
  expect(await readPlaces()).toEqual(before);
  const content = await client.files.content(file?.id ?? "");
  expect(Buffer.from(await content.arrayBuffer()).equals(bytes)).toBe(true);
  expect(await leftovers()).toBe(0);
  await client.files.delete(file?.id ?? "");
});

/** The table that has the bytes of files that are out of line. */
async function findToast(): Promise<string> {
  const { rows } = await database.pool.query<{ name: string }>(
    "select reltoastrelid::regclass::text as name from pg_class where oid = 'pgquiver_file_parts'::regclass",
  );
  return String(rows[0]?.name);
}

test("what does not fit together is refused, and the upload stays pending", async () => {
  const { id } = await begin(6);
  const first = await addPart(id, Buffer.from("abc"));
  const second = await addPart(id, Buffer.from("def"));
  const part_ids = [first.id, second.id];
  const refused = (part_ids: string[], md5?: string) =>
    client.uploads.complete(id, { part_ids, ...(md5 !== undefined && { md5 }) });
  await expect(refused([first.id])).rejects.toMatchObject({ status: 400, param: "part_ids" });
  await expect(refused([first.id, first.id])).rejects.toMatchObject({ status: 400, param: "part_ids" });
  await expect(refused([first.id, "part_none"])).rejects.toMatchObject({ status: 404, param: "part_ids[1]" });
  await expect(refused(part_ids, md5(Buffer.from("abcdeX")))).rejects.toMatchObject({
    status: 400,
    param: "md5",
  });
  await expect(refused(part_ids, "x")).rejects.toMatchObject({ status: 400, param: "md5" });
  await expect(addPart(id, Buffer.alloc(0))).rejects.toThrow(BadRequestError);
  await expect(addPart("upload_none", Buffer.from("x"))).rejects.toThrow(NotFoundError);
  const { file } = await client.uploads.complete(id, { part_ids: part_ids.toReversed() });
  const content = await client.files.content(file?.id ?? "");
  expect(await content.text()).toBe("defabc");
  await expect(addPart(id, Buffer.from("x"))).rejects.toMatchObject({
    status: 400,
    code: "upload_not_pending",
  });
  await expect(client.uploads.cancel(id)).rejects.toMatchObject({ status: 400, code: "upload_not_pending" });
  expect(await leftovers()).toBe(0);
  await client.files.delete(file?.id ?? "");
});

test.each([
  ["bytes", { bytes: 0 }],
  ["bytes", { bytes: 16 * 512 * 1024 * 1024 + 1 }],
  ["filename", { filename: "" }],
  ["mime_type", { mime_type: "" }],
  ["purpose", { purpose: "none" as "assistants" }],
])("an upload with a wrong %s is refused", async (param, wrong) => {
  const right = { bytes: 1, filename: "a", mime_type: "text/plain", purpose: "assistants" as const };
  await expect(client.uploads.create({ ...right, ...wrong })).rejects.toMatchObject({ status: 400, param });
});

test("a cancelled upload leaves nothing", async () => {
  const { id } = await begin(3);
  const part = await addPart(id, noise(600_000));
  expect(await leftovers()).toBeGreaterThan(0);
  expect(await client.uploads.cancel(id)).toMatchObject({ id, status: "cancelled", file: null });
  expect(await client.uploads.cancel(id)).toMatchObject({ status: "cancelled" });
  expect(await leftovers()).toBe(0);
  await expect(client.uploads.complete(id, { part_ids: [part.id] })).rejects.toMatchObject({
    code: "upload_not_pending",
  });
});

test("an upload expires after an hour, and its parts are removed", async () => {
  const { id } = await begin(3);
  const part = await addPart(id, Buffer.from("abc"));
  const age = (hours: number) =>
    database.pool.query(
      `with aged as (update pgquiver_uploads set expires_at = expires_at - $2 * interval '1 hour' where id = $1)
       update pgquiver_files set updated_at = updated_at - $2 * interval '1 hour' where upload_id = $1`,
      [id, hours],
    );
  await age(1.01);
  await expect(client.uploads.complete(id, { part_ids: [part.id] })).rejects.toMatchObject({
    message: expect.stringContaining("is expired"),
  });
  await expect(addPart(id, Buffer.from("x"))).rejects.toThrow(BadRequestError);
  await age(1);
  await removeLeftovers(database, new Buckets(undefined), 10);
  expect(await leftovers()).toBe(0);
});

test("of two completions at the same time one makes the file, of a cancellation beside it none or one", async () => {
  const bytes = noise(300_000);
  for (const other of ["complete", "cancel"] as const) {
    const { id } = await begin(bytes.length);
    const part_ids = [(await addPart(id, bytes)).id];
    const complete = () => client.uploads.complete(id, { part_ids });
    const outcomes = await Promise.allSettled([
      complete(),
      other === "complete" ? complete() : client.uploads.cancel(id),
    ]);
    const files = (await client.files.list()).data;
    const [first] = outcomes;
    const isCompleted = outcomes.some(
      (one) => one.status === "fulfilled" && one.value.status === "completed",
    );
    expect(files).toHaveLength(isCompleted ? 1 : 0);
    // Whoever was late gets the answer of the first.
    if (other === "cancel") expect(first.status === "fulfilled").toBe(isCompleted);
    else expect(outcomes[1]).toEqual(first);
    await removeLeftovers(database, new Buckets(undefined), 10);
    expect(await leftovers()).toBe(0);
    for (const file of files) await client.files.delete(file.id);
  }
});

test("quotas count what pending uploads announce, and the file", async () => {
  const project = await makeProject(database);
  const by = clientWith(await makeTestKey(database, project));
  const quota = "insert into pgquiver_quotas (project_id, max_file_bytes) values ($1, 10)";
  await database.pool.query(quota, [project]);
  await expect(begin(11, by)).rejects.toThrow(RateLimitError);
  const { id } = await begin(6, by);
  await expect(begin(5, by)).rejects.toMatchObject({ status: 429, code: "insufficient_quota" });
  const parts = [await addPart(id, Buffer.from("abc"), by), await addPart(id, Buffer.from("def"), by)];
  await by.uploads.complete(id, { part_ids: parts.map((part) => part.id) });
  await expect(begin(5, by)).rejects.toThrow(RateLimitError);
  const last = await begin(4, by);
  await by.uploads.cancel(last.id);
  await by.uploads.cancel((await begin(4, by)).id);
  expect((await by.files.list()).data).toMatchObject([{ bytes: 6 }]);
});

test("uploads and their parts are those of a project", async () => {
  const other = clientWith(await makeTestKey(database, await makeProject(database)));
  const { id } = await begin(3);
  const part = await addPart(id, Buffer.from("abc"));
  const missing = { status: 404, message: expect.stringContaining(`No such Upload object: ${id}`) };
  await expect(addPart(id, Buffer.from("abc"), other)).rejects.toMatchObject(missing);
  await expect(other.uploads.cancel(id)).rejects.toMatchObject(missing);
  await expect(other.uploads.complete(id, { part_ids: [part.id] })).rejects.toMatchObject(missing);
  const own = await begin(3, other);
  await expect(other.uploads.complete(own.id, { part_ids: [part.id] })).rejects.toMatchObject({
    status: 404,
    param: "part_ids[0]",
  });
  await client.uploads.cancel(id);
  await other.uploads.cancel(own.id);
});

test("a project may have a number of pending uploads", async () => {
  const by = clientWith(await makeTestKey(database, await makeProject(database)));
  const { id } = await begin(1, by);
  await database.pool.query(
    `insert into pgquiver_uploads (id, project_id, created_at, expires_at, bytes, filename, purpose)
     select id || n, project_id, created_at, expires_at, bytes, filename, purpose
     from pgquiver_uploads, generate_series(2, $2::int) as n where id = $1`,
    [id, limits.uploads_pending_max],
  );
  await expect(begin(1, by)).rejects.toThrow(RateLimitError);
  await by.uploads.cancel(id);
  await begin(1, by);
});

test("a part may have 64 MiB, and an upload twice its bytes", async () => {
  const { id } = await begin(3);
  await expect(addPart(id, Buffer.alloc(limits.upload_part_bytes_max + 1))).rejects.toMatchObject({
    status: 413,
  });
  await addPart(id, Buffer.from("abc"));
  await addPart(id, Buffer.from("abc"));
  await expect(addPart(id, Buffer.from("a"))).rejects.toMatchObject({ status: 413, param: "data" });
  await client.uploads.cancel(id);
  await removeLeftovers(database, new Buckets(undefined), 10);
  expect(await leftovers()).toBe(0);
});

test("over gRPC the metadata comes first, and another length than announced is refused", async () => {
  const options = { headers: { authorization: `Bearer ${root}` } };
  const files = createClient(FileService, createGrpcTransport({ baseUrl: server.url }));
  const request = { bytes: 6n, filename: "a.txt", mimeType: "text/plain", purpose: "assistants" };
  const { id: uploadId } = await files.createUpload(request, options);
  async function* partOf(text: string, bytes: bigint) {
    yield { part: { case: "metadata" as const, value: { uploadId, bytes } } };
    for (const letter of text) yield { part: { case: "data" as const, value: Buffer.from(letter) } };
  }
  await expect(files.addUploadPart(partOf("abc", 4n), options)).rejects.toThrow(/announced with 4 bytes/);
  const partIds: string[] = [];
  for (const text of ["abc", "def"]) partIds.push((await files.addUploadPart(partOf(text, 3n), options)).id);
  const { file } = await files.completeUpload({ uploadId, partIds }, options);
  expect(await (await client.files.content(file?.id ?? "")).text()).toBe("abcdef");
});

test.runIf(inject("template").kind === "postgres")(
  "an upload goes on after its process is killed",
  async () => {
    const environment = { DATABASE_URL: String(database.url), SERVER_API_KEY: root, PORT: "0" };
    const open = async () => {
      const started = start(environment);
      const url = /http:\/\/\S+/.exec(await started.said(/^Listening on /))?.[0] ?? "";
      return { ...started, client: clientWith(root, url) };
    };
    const bytes = noise(700_000);
    const first = await open();
    const { id } = await begin(bytes.length, first.client);
    const one = await addPart(id, bytes.subarray(0, 400_000), first.client);
    first.child.kill("SIGKILL");
    await first.ended;
    const second = await open();
    const two = await addPart(id, bytes.subarray(400_000), second.client);
    const { file } = await second.client.uploads.complete(id, {
      part_ids: [one.id, two.id],
      md5: md5(bytes),
    });
    const content = await second.client.files.content(file?.id ?? "");
    expect(Buffer.from(await content.arrayBuffer()).equals(bytes)).toBe(true);
  },
);
