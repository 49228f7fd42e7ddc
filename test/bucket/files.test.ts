import { randomUUID } from "node:crypto";
import {
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  S3Client,
} from "@aws-sdk/client-s3";
import OpenAI, { toFile } from "openai";
import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { Buckets } from "../../src/files/buckets.ts";
import { removeLeftovers } from "../../src/files/leftovers.ts";
import { openTestDatabase } from "../support/databases/database.ts";
import { noise } from "../support/stores/noise.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";

/** An S3-compatible server's address; credentials are in AWS's own variables. */
const endpoint = String(process.env["TEST_BUCKET_ENDPOINT"]);
const s3 = new S3Client({ endpoint, region: "us-east-1", forcePathStyle: true });

/** A bucket of its own for each test. */
let bucket: string;
let url: string;
beforeEach(async () => {
  bucket = `test-${randomUUID()}`;
  await s3.send(new CreateBucketCommand({ Bucket: bucket }));
  url = `s3://${bucket}/some/files?endpoint=${encodeURIComponent(endpoint)}`;
});

async function serve(bucketUrl: string | undefined, database?: TestServer["database"]) {
  const server = await startServer({
    files: { bucketUrl, bytesMax: 20_000_000 },
    ...(database !== undefined && { database }),
  });
  onTestFinished(() => server[Symbol.asyncDispose]());
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "unused", maxRetries: 0 });
  return { server, client, pool: server.database.pool };
}

async function listKeys(): Promise<string[]> {
  const { Contents = [] } = await s3.send(new ListObjectsV2Command({ Bucket: bucket }));
  return Contents.map(({ Key }) => String(Key));
}

async function listBroken(): Promise<unknown[]> {
  return (await s3.send(new ListMultipartUploadsCommand({ Bucket: bucket }))).Uploads ?? [];
}

const states = "select state from pgquiver_files";

async function upload(client: OpenAI, bytes: Uint8Array) {
  return client.files.create({ file: await toFile(bytes, "a.bin"), purpose: "assistants" });
}

test.each([0, 1, 300_000, 5 * 1024 * 1024, 12_345_678])(
  "a file of %i bytes is an object and comes back as it was, whole and in part",
  async (length) => {
    const { client, pool } = await serve(url);
    const bytes = noise(length);
    const { id, bytes: stored } = await upload(client, bytes);
    expect(stored).toBe(length);
    expect(await listKeys()).toEqual([`some/files/${id}`]);
    const content = await client.files.content(id);
    expect(Buffer.from(await content.arrayBuffer()).equals(bytes)).toBe(true);
    if (length > 1) {
      const part = await client.files.content(id, { headers: { range: `bytes=1-${length - 1}` } });
      expect(part.status).toBe(206);
      expect(Buffer.from(await part.arrayBuffer()).equals(bytes.subarray(1))).toBe(true);
    }
    await client.files.delete(id);
    expect(await listKeys()).toEqual([]);
    expect((await pool.query(states)).rows).toEqual([]);
  },
);

test("files stay where they are when the setting changes", async () => {
  await using database = await openTestDatabase();
  const before = await serve(undefined, database);
  const inDatabase = await upload(before.client, Buffer.from("in the database"));
  const there = await serve(url, database);
  const inBucket = await upload(there.client, Buffer.from("in the bucket"));
  const after = await serve(undefined, database);
  for (const { client } of [before, there, after]) {
    expect(await (await client.files.content(inDatabase.id)).text()).toBe("in the database");
    expect(await (await client.files.content(inBucket.id)).text()).toBe("in the bucket");
  }
  await after.client.files.delete(inBucket.id);
  expect(await listKeys()).toEqual([]);
});

test("an upload that is refused in the end leaves no object and no parts of one", async () => {
  const { client, pool } = await serve(url);
  for (const length of [100, 12_000_000, 21_000_000]) {
    const file = await toFile(noise(length), "a.bin");
    await expect(client.files.create({ file, purpose: "fun" as "evals" })).rejects.toThrow(OpenAI.APIError);
    await vi.waitFor(async () => expect((await pool.query(states)).rows).toEqual([]), 60_000);
    expect([await listKeys(), await listBroken()]).toEqual([[], []]);
  }
});

test("what a process left is removed, and a file whose bucket is away remains to be removed", async () => {
  const { client, pool, server } = await serve(url);
  const buckets = new Buckets(url);
  onTestFinished(() => buckets.close());
  const { id } = await upload(client, Buffer.from("x"));
  const key = `some/files/${id}`;
  await s3.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key: key }));
  await pool.query("update pgquiver_files set state = 'uploading', updated_at = now() - interval '3 hours'");
  expect(await removeLeftovers(server.database, buckets, 10)).toBe(1);
  expect([await listKeys(), await listBroken(), (await pool.query(states)).rows]).toEqual([[], [], []]);

  const other = await upload(client, Buffer.from("x"));
  const away = "s3://bucket/key?endpoint=http://127.0.0.1:9";
  await pool.query("update pgquiver_files set object_url = $1", [away]);
  await expect(client.files.content(other.id)).rejects.toMatchObject({
    status: 503,
    code: "file_storage_unavailable",
  });
  await client.files.delete(other.id);
  await expect(client.files.retrieve(other.id)).rejects.toThrow(OpenAI.NotFoundError);
  expect((await pool.query(states)).rows).toEqual([{ state: "deleted" }]);
  await pool.query("update pgquiver_files set updated_at = now() - interval '2 minutes'");
  await expect(removeLeftovers(server.database, buckets, 10)).rejects.toMatchObject({ code: 14 });
  expect((await pool.query(states)).rows).toEqual([{ state: "deleted" }]);
});

test("a bucket that refuses is an error of the upload", async () => {
  const { client, pool } = await serve(`s3://not-there-${randomUUID()}?endpoint=${endpoint}`);
  await expect(upload(client, Buffer.from("x"))).rejects.toMatchObject({
    status: 503,
    code: "file_storage_unavailable",
  });
  expect((await pool.query(states)).rows).toEqual([]);
});

test("parts of an upload are objects until it is completed or cancelled", async () => {
  const { client } = await serve(url);
  const bytes = noise(700_000);
  const request = { filename: "a.bin", mime_type: "text/plain", purpose: "assistants" as const };
  const { id } = await client.uploads.create({ ...request, bytes: bytes.length });
  const add = async (to: string, data: Uint8Array) =>
    (await client.uploads.parts.create(to, { data: await toFile(data, "part") })).id;
  const part_ids = [await add(id, bytes.subarray(0, 262_144)), await add(id, bytes.subarray(262_144))];
  expect(await listKeys()).toEqual(part_ids.toSorted().map((part) => `some/files/${part}`));
  const { file } = await client.uploads.complete(id, { part_ids });
  expect(await listKeys()).toEqual([`some/files/${file?.id}`]);
  const content = await client.files.content(file?.id ?? "");
  expect(Buffer.from(await content.arrayBuffer()).equals(bytes)).toBe(true);
  const other = await client.uploads.create({ ...request, bytes: 1 });
  await add(other.id, bytes);
  await client.uploads.cancel(other.id);
  expect(await listKeys()).toEqual([`some/files/${file?.id}`]);
});
