import { afterAll, describe, expect, test } from "vitest";
import type { DescMessage, DescMethod } from "@bufbuild/protobuf";
import type { Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { findMethod, services } from "../../support/clients/dialect.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { filePart, form, FORM_TYPE, textPart } from "../../support/clients/form.ts";
import { send } from "../../support/clients/http.ts";
import { makeProject, makeTestKey } from "../../support/stores/keys.ts";
import { startServer } from "../../support/servers/server.ts";

const root = "a-key-of-the-environment";
const database = await openTestDatabase();
const server = await startServer({ database, apiKeys: [root] });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
});
const [a, b] = [await makeProject(database), await makeProject(database)];
const keys = { default: root, a: await makeTestKey(database, a), b: await makeTestKey(database, b) };
const teams = Object.entries(keys);

/** Asks by REST, and checks that no reply shows how ids are stored. */
async function ask(
  key: string,
  verb: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
) {
  const isText = typeof body === "string" || Buffer.isBuffer(body);
  const reply = await send(
    `${server.url}/v1${path}`,
    verb,
    body === undefined || isText ? (body as string | undefined) : JSON.stringify(body),
    {
      authorization: `Bearer ${key}`,
      ...(body !== undefined && { "content-type": "application/json" }),
      ...headers,
    },
  );
  expect(reply.text).not.toMatch(/proj_[0-9a-f]{32}\//);
  return { status: reply.status, text: reply.text };
}

async function ok(...asked: Parameters<typeof ask>): Promise<Reply> {
  const { status, text } = await ask(...asked);
  expect(status, text).toBe(200);
  return JSON.parse(text);
}

const ndjson = { "content-type": "application/x-ndjson" };

describe("two teams and the default project, in the same ids", () => {
  test("have stores, rows, loads, searches and lists of their own", async () => {
    for (const [team, key] of teams) {
      expect(await ok(key, "POST", "/vector_stores", { id: "faq", name: team })).toMatchObject({ id: "faq" });
      const row = { id: "e", content: `the secret of ${team}`, metadata: { filename: `${team}.txt` } };
      await ok(key, "POST", "/vector_stores/faq/embeddings", row);
      const line = JSON.stringify({ id: "f", content: `another secret of ${team}` });
      const load = "/vector_stores/faq/embeddings/ingest";
      expect(await ok(key, "POST", load, line, { ...ndjson, "idempotency-key": "load" })).toMatchObject({
        vector_store_id: "faq",
        rows_written: 1,
      });
    }
    for (const [team, key] of teams) {
      const found = await ok(key, "POST", "/vector_stores/faq/search", { query: "secret" });
      expect(found.data.map(({ content }: Reply) => content[0].text).toSorted()).toEqual([
        `another secret of ${team}`,
        `the secret of ${team}`,
      ]);
      expect(await ok(key, "GET", "/vector_stores")).toMatchObject({
        data: [{ id: "faq", name: team, embedding_count: 2 }],
        first_id: "faq",
        last_id: "faq",
      });
      const rows = await ok(key, "GET", "/vector_stores/faq/embeddings?order=asc");
      expect(rows.data.map(({ id, vector_store_id: of }: Reply) => [id, of])).toEqual([
        ["e", "faq"],
        ["f", "faq"],
      ]);
      expect(await ok(key, "GET", "/vector_stores/faq/ingests/load")).toMatchObject({ rows_written: 1 });
      expect(await ok(key, "GET", "/vector_stores/faq/index")).toMatchObject({ vector_store_id: "faq" });
      const exported = await ask(key, "GET", "/vector_stores/faq/embeddings/export");
      expect(exported.text.match(/secret of \w+/g)).toEqual([`secret of ${team}`, `secret of ${team}`]);
    }
  });

  test("meet different stores under one Idempotency-Key, each its own again", async () => {
    const ids: string[] = [];
    const once = { "idempotency-key": "the-same" };
    for (const [, key] of teams) {
      const { id } = await ok(key, "POST", "/vector_stores", { name: "one" }, once);
      expect((await ok(key, "POST", "/vector_stores", { name: "one" }, once)).id).toBe(id);
      ids.push(id);
    }
    expect(new Set(ids).size).toBe(3);
  });

  test("page through their own lists, also from a store that was deleted", async () => {
    for (const [team, key] of teams) {
      const made: string[] = [];
      for (const name of ["1", "2", "3"]) made.push((await ok(key, "POST", "/vector_stores", { name })).id);
      const second = `/vector_stores?order=asc&limit=1&after=${made[0]}`;
      expect(await ok(key, "GET", second)).toMatchObject({ data: [{ id: made[1] }], last_id: made[1] });
      await ok(key, "DELETE", `/vector_stores/${made[0]}`);
      expect(await ok(key, "GET", second), team).toMatchObject({ data: [{ id: made[1] }] });
    }
  });

  test("see refusals in their own ids", async () => {
    const wrong = { content: "x", embedding: [1, 2, 3] };
    for (const [, key] of teams) {
      const { text } = await ask(key, "POST", "/vector_stores/faq/embeddings", wrong);
      expect(text).toContain("vector store 'faq' holds vectors of");
      const lines = await ask(
        key,
        "POST",
        "/vector_stores/faq/embeddings/ingest?on_error=skip_row",
        JSON.stringify(wrong),
        ndjson,
      );
      expect(lines.text).toContain("vector store 'faq' holds vectors of");
      expect((await ask(key, "POST", "/vector_stores", { id: "faq" })).text).toContain(
        "the id 'faq' already exists",
      );
    }
  });

  test("delete their own only", async () => {
    expect(await ok(keys.a, "DELETE", "/vector_stores/faq")).toMatchObject({ id: "faq", deleted: true });
    expect((await ask(keys.a, "GET", "/vector_stores/faq")).status).toBe(404);
    expect(await ok(keys.b, "GET", "/vector_stores/faq")).toMatchObject({ embedding_count: 2 });
    expect(await ok(root, "GET", "/vector_stores/faq")).toMatchObject({ embedding_count: 2 });
  });
});

/** The unary RPCs whose request names a store, and what each needs besides to get as far as the store. */
const named = services
  .flatMap(({ methods }) => methods)
  .filter(({ methodKind, input }) => methodKind === "unary" && input.field["vectorStoreId"] !== undefined);

function requestOf({ input }: DescMethod, storeId: string): Record<string, unknown> {
  const values: Record<string, unknown> = {
    vector_store_id: storeId,
    file_id: "file-1",
    new_file_id: "file-2",
    embedding_id: "e",
    batch_id: "vsfb_1",
    file_ids: ["file-1"],
    embeddings: [{ content: "x" }],
    embedding_ids: ["e"],
    query: "x",
    searches: [{ query: "x" }],
    attributes: { k: "v" },
    name: "n",
    policy: "never",
    filters: { type: "eq", key: "k", value: "v" },
    // Clients of all protocols take the embedding's fields as REST does.
    embedding: "",
  };
  if (input.name === "FacetEmbeddingsRequest") values["attributes"] = ["k"];
  const has = (desc: DescMessage, name: string) => desc.fields.some((field) => field.name === name);
  const left = {
    CreateVectorStoreFileBatchRequest: ["attributes"],
    SearchRequest: ["filters", "embedding"],
  }[input.name];
  const request = Object.fromEntries(
    Object.entries(values).filter(([name]) => has(input, name) && left?.includes(name) !== true),
  );
  if (!("embedding" in request)) return request;
  return { vector_store_id: storeId, content: "x" };
}

describe.each(protocols)("over $name a store of another project", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());
  const outcome = async (rpc: string, request: Record<string, unknown>, key: string) =>
    call(rpc, request, { key }).then(
      () => "done",
      ({ code, reason, param, message }: Reply) => ({ code, reason, param, message }),
    );

  test.each(named.map((method) => [`${method.parent.name}/${method.name}`] as const))(
    "is to %s as if it did not exist",
    async (rpc) => {
      const method = findMethod(rpc);
      const id = `of-a-${protocol.name.replace(/\W/g, "-")}`;
      await call("VectorStoreService/CreateVectorStore", { id }, { key: keys.a }).catch(() => undefined);
      const listed = await makeTestKey(database, a, undefined, ["other"]);
      for (const key of [keys.b, root, listed]) {
        const missing = await outcome(rpc, requestOf(method, "none"), key);
        expect(missing).toMatchObject({ code: "not_found" });
        const asMissing = (shown: string) => JSON.parse(JSON.stringify(missing).replaceAll("none", shown));
        expect(await outcome(rpc, requestOf(method, id), key)).toEqual(asMissing(id));
        const stored = `${a}/${id}`;
        expect(await outcome(rpc, requestOf(method, stored), key)).toEqual(asMissing(stored));
      }
    },
  );
});

test("files are seen, attached and deleted in their own project only", async () => {
  const upload = form(filePart("the text of a file"), textPart("purpose", "assistants"));
  const post = async (key: string) => {
    const headers = { authorization: `Bearer ${key}`, ...FORM_TYPE };
    const reply = await fetch(`${server.url}/v1/files`, { method: "POST", headers, body: upload });
    return (await reply.json()) as { id: string };
  };
  const { id } = await post(keys.a);
  const missing = `file-${"0".repeat(32)}`;
  await ok(keys.a, "POST", "/vector_stores", { id: "with-files" });
  await ok(keys.b, "POST", "/vector_stores", { id: "with-files" });
  for (const key of [keys.b, root]) {
    expect((await ok(key, "GET", "/files")).data).toEqual([]);
    const same = async (verb: string, path: (file: string) => string, body?: (file: string) => unknown) => {
      const of = (file: string) => ask(key, verb, path(file), body?.(file));
      const hidden = await of(id);
      expect(hidden.status).toBeGreaterThanOrEqual(400);
      expect(hidden.text.replaceAll(id, missing)).toBe((await of(missing)).text);
    };
    await same("GET", (file) => `/files/${file}`);
    await same("GET", (file) => `/files/${file}/content`);
    await same("DELETE", (file) => `/files/${file}`);
    expect((await ok(key, "GET", `/files?after=${id}`)).data).toEqual([]);
    const store = key === root ? "faq" : "with-files";
    await same(
      "POST",
      () => `/vector_stores/${store}/files`,
      (file) => ({ file_id: file }),
    );
    await same(
      "POST",
      () => `/vector_stores/${store}/file_batches`,
      (file) => ({ file_ids: [file] }),
    );
    await same(
      "POST",
      () => "/vector_stores",
      (file) => ({ file_ids: [file] }),
    );
  }
  await ok(keys.a, "POST", "/vector_stores/with-files/files", { file_id: id });
  await expect
    .poll(async () => (await ok(keys.a, "GET", `/vector_stores/with-files/files/${id}`)).status, {
      timeout: 60_000,
    })
    .toBe("completed");
  const found = await ok(keys.a, "POST", "/vector_stores/with-files/search", { query: "text of a file" });
  expect(found.data[0]).toMatchObject({ file_id: id, filename: "a.txt" });
  expect(await ok(keys.a, "GET", `/vector_stores/with-files/files`)).toMatchObject({
    data: [{ id, vector_store_id: "with-files" }],
  });
  expect(await ok(keys.a, "DELETE", `/files/${id}`)).toMatchObject({ deleted: true });
  expect((await ok(keys.a, "GET", "/vector_stores/with-files/files")).data).toEqual([]);
});

test("a key with an allow-list sees, lists and makes the stores on it only", async () => {
  for (const id of ["on-1", "on-2", "off"]) await ok(keys.b, "POST", "/vector_stores", { id });
  for (const [project, full] of [
    [b, keys.b],
    ["default", root],
  ] as const) {
    for (const id of ["on-1", "off"]) await ask(full, "POST", "/vector_stores", { id });
    const key = await makeTestKey(database, project, undefined, ["on-1", "on-2", "new"]);
    const { data } = await ok(key, "GET", "/vector_stores?order=asc");
    expect(data.map(({ id }: Reply) => id)).toEqual(project === b ? ["on-1", "on-2"] : ["on-1"]);
    expect((await ask(key, "GET", "/vector_stores/off")).status).toBe(404);
    expect((await ask(key, "GET", "/vector_stores?after=off")).text).toBe(
      (await ask(key, "GET", "/vector_stores?after=nil")).text.replaceAll("nil", "off"),
    );
    expect((await ask(key, "POST", "/vector_stores", { id: "else" })).status).toBe(403);
    expect((await ask(key, "POST", "/vector_stores", {})).status).toBe(403);
    expect(await ok(key, "POST", "/vector_stores", { id: "new" })).toMatchObject({ id: "new" });
  }
});

test("files are attached to a new store by a key with files.write only", async () => {
  const key = await makeTestKey(database, a, ["stores.write"]);
  const refused = await ask(key, "POST", "/vector_stores", { file_ids: ["file-1"] });
  expect(refused).toMatchObject({ status: 403, text: expect.stringContaining("files.write") });
});
