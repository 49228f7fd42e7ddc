import type { OpenAI } from "openai";
import { expect, inject, onTestFinished, test, vi } from "vitest";
import { openEmptyDatabase, openTestDatabase } from "../../support/databases/database.ts";
import { embedderAt } from "../../support/servers/embedder.ts";
import { startEmbeddingServer, type EmbeddingServer } from "../../support/servers/embedding-server.ts";
import { clientOf, startFileService } from "../../support/servers/file-service.ts";
import { readCounters, uploadText } from "../../support/stores/files.ts";
import { extractLanded } from "../../support/databases/landed.ts";
import { start, type Started } from "../../support/servers/process.ts";
import { startServer } from "../../support/servers/server.ts";

const isNative = inject("template").kind === "postgres";

/** A file as this service answers, with what OpenAI's type lacks. */
interface Replaced {
  id: string;
  status: string;
  replaces_file_id: string | null;
  attributes: Record<string, unknown> | null;
}

const HERONS = "This one tells us all of a heron.";

/** Chunks of one paragraph of `textOf`. */
const byParagraph = { type: "characters", characters: { max_chunk_size_characters: 40 } };

/** A text of paragraphs, each of which is a chunk: all have one length. `changes`: paragraphs by number. */
function textOf(count: number, changes: Record<number, string> = {}): string {
  const paragraphs = Array.from(
    { length: count },
    (_, n) => changes[n]?.padEnd(33, ".") ?? `This is paragraph ${String(n).padStart(4, "0")} of it all.`,
  );
  return paragraphs.join("\n\n");
}

const replace = async (client: OpenAI, storeId: string, fileId: string, body: Record<string, unknown>) =>
  client.post<Replaced>(`/vector_stores/${storeId}/files/${fileId}/replace`, { body });

const poll = async (client: OpenAI, storeId: string, fileId: string) =>
  (await client.vectorStores.files.poll(storeId, fileId)) as unknown as Replaced;

/** Attaches a text and waits until it is searchable. */
async function attach(
  client: OpenAI,
  storeId: string,
  text: string,
  attributes: Record<string, string> = {},
) {
  const file_id = await uploadText(client, text);
  const body = { file_id, attributes, chunking_strategy: byParagraph };
  await client.post(`/vector_stores/${storeId}/files`, { body });
  expect(await poll(client, storeId, file_id)).toMatchObject({ status: "completed" });
  return file_id;
}

async function textsOf(client: OpenAI, storeId: string, fileId: string): Promise<string[]> {
  const page = await client.vectorStores.files.content(fileId, { vector_store_id: storeId });
  return page.data.map(({ text = "" }) => text.trim());
}

const listed = async (client: OpenAI, storeId: string) =>
  (await client.vectorStores.files.list(storeId)).data.map(({ id }) => id);

const embedded = ({ requests }: EmbeddingServer) => requests.flatMap(({ body }) => body.input);

/** Makes the provider wait; the result lets it go on. */
function hold(provider: EmbeddingServer): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  provider.always({ until: promise });
  return () => {
    provider.always({});
    resolve();
  };
}

test("of ten chunks of which one changed, one is embedded", async () => {
  const { client, database, provider } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const old = await attach(client, storeId, textOf(10));
  expect(await textsOf(client, storeId, old)).toHaveLength(10);
  const vectors = async () => {
    const { rows } = await database.pool.query(
      "select chunk_index, embedding::text from embeddings where vector_store_id = $1 order by 1",
      [storeId],
    );
    return rows.map(({ embedding }) => embedding as string);
  };
  const before = await vectors();
  provider.requests.splice(0);
  const next = await uploadText(client, textOf(10, { 4: HERONS }));
  await replace(client, storeId, old, { new_file_id: next });
  expect(await poll(client, storeId, next)).toMatchObject({ status: "completed", replaces_file_id: old });
  expect(embedded(provider).map((text) => text.trim())).toEqual([HERONS]);
  const after = await vectors();
  expect(after.filter((vector, n) => n !== 4 && vector === before[n])).toHaveLength(9);
  expect(after[4]).not.toBe(before[4]);
  expect(await listed(client, storeId)).toEqual([next]);
  expect((await textsOf(client, storeId, next))[4]).toBe(HERONS);
  const { kept, counted } = await readCounters(database, storeId);
  expect(kept).toEqual(counted);
});

test("a file of several groups is embedded where it changed, also in an order of its own", async () => {
  const { client, database, provider } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const old = await attach(client, storeId, textOf(1_200));
  provider.requests.splice(0);
  const paragraphs = textOf(1_200, { 700: HERONS }).split("\n\n");
  const moved = [...paragraphs.slice(600), ...paragraphs.slice(0, 600)].join("\n\n");
  const next = await uploadText(client, moved);
  await replace(client, storeId, old, { new_file_id: next });
  expect(await poll(client, storeId, next)).toMatchObject({ status: "completed" });
  expect(embedded(provider).map((text) => text.trim())).toEqual([HERONS]);
  expect(await textsOf(client, storeId, next)).toEqual(moved.split("\n\n"));
  const { kept, counted } = await readCounters(database, storeId);
  expect(kept).toEqual(counted);
});

test("searches find the one version or the other, never both or none", async () => {
  const { client, provider } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  let current = await attach(client, storeId, textOf(20), { version: "0" });
  let isOver = false;
  const seen = new Set<string>();
  const search = async () => {
    while (!isOver) {
      const { data } = await client.vectorStores.search(storeId, { query: "paragraph", max_num_results: 50 });
      seen.add(JSON.stringify([data.length, new Set(data.map(({ file_id }) => file_id)).size]));
    }
  };
  const searching = [search(), search()];
  for (let version = 1; version <= 5; version++) {
    const next = await uploadText(client, textOf(20, { [version]: `paragraph of version ${version}` }));
    await replace(client, storeId, current, { new_file_id: next });
    expect(await poll(client, storeId, next)).toMatchObject({ status: "completed" });
    current = next;
  }
  isOver = true;
  await Promise.all(searching);
  expect([...seen]).toEqual(["[20,1]"]);
  expect(provider.requests.length).toBeGreaterThan(0);
});

test("attributes are those of the old file when it is replaced, or those that were given", async () => {
  const { client, provider } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const place = { vector_store_id: storeId };
  const { files } = client.vectorStores;
  const metadata = async () => {
    const { data } = await client.vectorStores.search(storeId, { query: "paragraph" });
    return data.map(({ attributes }) => attributes);
  };
  let old = await attach(client, storeId, textOf(1), { of: "old" });
  const begin = async (body: Record<string, unknown>) => {
    const count = provider.requests.length;
    const release = hold(provider);
    const next = await uploadText(client, `A paragraph, ${crypto.randomUUID().slice(0, 8)}.`);
    await replace(client, storeId, old, { new_file_id: next, ...body });
    await provider.received(count + 1);
    return { next, release };
  };
  const end = async ({ next, release }: Awaited<ReturnType<typeof begin>>) => {
    release();
    const { attributes, status } = await poll(client, storeId, next);
    expect(status).toBe("completed");
    expect(await metadata()).toEqual([attributes]);
    old = next;
    return attributes;
  };
  const inheriting = await begin({});
  await files.update(old, { ...place, attributes: { of: "old", changed: "meanwhile" } });
  expect(await end(inheriting)).toEqual({ of: "old", changed: "meanwhile" });
  const changing = await begin({});
  await files.update(changing.next, { ...place, attributes: { of: "new" } });
  expect(await end(changing)).toEqual({ of: "new" });
  expect(await end(await begin({ attributes: { of: "the request" } }))).toEqual({ of: "the request" });
});

test("a new version that fails, is removed or is cancelled leaves the old one", async () => {
  const { client, database, provider } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const old = await attach(client, storeId, textOf(3));
  const still = async () => {
    expect(await textsOf(client, storeId, old)).toHaveLength(3);
    const { kept, counted } = await readCounters(database, storeId);
    expect(kept).toEqual(counted);
  };
  const failing = await uploadText(client, "\0\u{1}\u{2}\u{3}");
  await replace(client, storeId, old, { new_file_id: failing });
  expect(await poll(client, storeId, failing)).toMatchObject({ status: "failed", replaces_file_id: old });
  await still();
  const begin = async () => {
    const count = provider.requests.length;
    const next = await uploadText(client, `A paragraph, ${crypto.randomUUID().slice(0, 8)}.`);
    await replace(client, storeId, old, { new_file_id: next });
    await provider.received(count + 1);
    return next;
  };
  const release = hold(provider);
  const removed = await begin();
  await client.vectorStores.files.delete(removed, { vector_store_id: storeId });
  await still();
  const first = await begin();
  // The same call once more changes nothing.
  expect(await replace(client, storeId, old, { new_file_id: first })).toMatchObject({
    status: "in_progress",
  });
  const last = await begin();
  expect(await poll(client, storeId, first)).toMatchObject({ status: "cancelled" });
  await still();
  release();
  expect(await poll(client, storeId, last)).toMatchObject({ status: "completed" });
  expect((await listed(client, storeId)).toSorted()).toEqual([failing, first, last].toSorted());
  const { kept, counted } = await readCounters(database, storeId);
  expect(kept).toEqual(counted);
});

test("what cannot be replaced is refused", async () => {
  const { client } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const old = await attach(client, storeId, textOf(1));
  const other = await attach(client, storeId, textOf(2));
  const next = await uploadText(client, textOf(3));
  const refused = (fileId: string, newFileId: string) =>
    replace(client, storeId, fileId, { new_file_id: newFileId }).then(
      () => "replaced",
      ({ status, code, param }: { status: number; code: string; param: string }) => [status, code, param],
    );
  expect(await refused(old, old)).toEqual([400, "invalid_value", "new_file_id"]);
  expect(await refused(old, other)).toEqual([409, "already_exists", "new_file_id"]);
  expect(await refused(next, old)).toEqual([404, null, "file_id"]);
  expect(await refused(old, "file-none")).toEqual([404, null, "new_file_id"]);
  const failed = await uploadText(client, "");
  await client.vectorStores.files.create(storeId, { file_id: failed });
  expect(await poll(client, storeId, failed)).toMatchObject({ status: "failed" });
  expect(await refused(failed, next)).toEqual([400, "file_not_completed", "file_id"]);
});

test("a store that is full takes a new version of the same size, and none that is larger", async () => {
  const { client, database } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  let old = await attach(client, storeId, textOf(10));
  await database.pool.query("insert into pgquiver_quotas (project_id, max_rows) values ('default', 10)");
  const beside = await uploadText(client, textOf(1));
  await client.vectorStores.files.create(storeId, { file_id: beside });
  expect(await poll(client, storeId, beside)).toMatchObject({ status: "failed" });
  const next = await uploadText(client, textOf(10, { 3: HERONS }));
  await replace(client, storeId, old, { new_file_id: next });
  expect(await poll(client, storeId, next)).toMatchObject({ status: "completed" });
  old = next;
  const larger = await uploadText(client, textOf(11));
  await replace(client, storeId, old, { new_file_id: larger });
  expect(await poll(client, storeId, larger)).toMatchObject({ status: "failed" });
  expect(await textsOf(client, storeId, old)).toHaveLength(10);
  const { kept, counted } = await readCounters(database, storeId);
  expect(kept).toEqual(counted);
});

async function findUrl({ said }: Started): Promise<string> {
  return /http:\/\/\S+/.exec(await said(/^Listening on /))?.[0] ?? "";
}

test.runIf(isNative)("a process that is killed before the switch leaves it to the next one", async () => {
  const database = await openTestDatabase();
  await using provider = await startEmbeddingServer();
  onTestFinished(() => database.close());
  const environment = {
    DATABASE_URL: String(database.url),
    EMBEDDING__BASE_URL: `${provider.url}/v1`,
    EMBEDDING__MODEL: "test-embedding",
    PORT: "0",
  };
  const first = start(environment);
  const client = clientOf({ url: await findUrl(first) });
  const { id: storeId } = await client.vectorStores.create({});
  const old = await attach(client, storeId, textOf(10));
  const count = provider.requests.length;
  const release = hold(provider);
  const next = await uploadText(client, textOf(10, { 9: HERONS }));
  await replace(client, storeId, old, { new_file_id: next });
  await provider.received(count + 1);
  first.child.kill("SIGKILL");
  await first.ended;
  release();
  const successor = clientOf({ url: await findUrl(start(environment)) });
  expect(await textsOf(successor, storeId, old)).toHaveLength(10);
  expect(await poll(successor, storeId, next)).toMatchObject({ status: "completed" });
  expect(await listed(successor, storeId)).toEqual([next]);
  expect(new Set(embedded(provider).slice(10))).toEqual(new Set([HERONS]));
  const { kept, counted } = await readCounters(database, storeId);
  expect(kept).toEqual(counted);
});

test.runIf(isNative)("the last landed version leaves new versions of files to this one", async () => {
  const database = await openEmptyDatabase();
  await using provider = await startEmbeddingServer();
  onTestFinished(() => database.close());
  const environment = {
    DATABASE_URL: String(database.url),
    EMBEDDING__BASE_URL: `${provider.url}/v1`,
    EMBEDDING__MODEL: "test-embedding",
    PORT: "0",
  };
  const landed = start(environment, { cwd: await extractLanded() });
  const byOld = clientOf({ url: await findUrl(landed) });
  // This one's processes do not read files yet: whoever does so is of the old version.
  const idle = start({ ...environment, FILE_WORKERS: "0" });
  const byNew = clientOf({ url: await findUrl(idle) });
  const { id: storeId } = await byOld.vectorStores.create({});
  const old = await attach(byOld, storeId, textOf(10));
  const next = await uploadText(byOld, textOf(10, { 2: HERONS }));
  await replace(byNew, storeId, old, { new_file_id: next });
  // The old version has looked for files since.
  await attach(byOld, storeId, "Another file.");
  const { rows } = await database.pool.query(
    "select status, attempts, claim from pgquiver_vector_store_files where file_id = $1",
    [next],
  );
  expect(rows).toEqual([{ status: "in_progress", attempts: 0, claim: null }]);
  expect(await textsOf(byOld, storeId, old)).toHaveLength(10);
  await using working = await startServer({ database, embedder: embedderAt(provider.url) });
  expect(await poll(clientOf(working), storeId, next)).toMatchObject({ status: "completed" });
  await vi.waitFor(async () => expect(await listed(byOld, storeId)).not.toContain(old));
  expect(await textsOf(byOld, storeId, next)).toHaveLength(10);
  const { kept, counted } = await readCounters(database, storeId);
  expect(kept).toEqual(counted);
});
