import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRandom } from "../../../bench/support/random.ts";
import { protocols } from "../../support/clients/clients.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { allEmbeddings } from "../../support/stores/index-store.ts";
import { send } from "../../support/clients/http.ts";
import { startIdentityProvider, userTokens } from "../../support/servers/identity-provider.ts";
import { makeTestKey } from "../../support/stores/keys.ts";
import { makeSearchStore } from "../../support/stores/search-store.ts";
import { startServer } from "../../support/servers/server.ts";

/** Callers with readers see, on every path, exactly the rows that plain SQL says they may. */
const provider = await startIdentityProvider();
const database = await openTestDatabase();
const server = await startServer({ database, tokens: provider.settings });
const key = await makeTestKey(database, "default");
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
  await provider[Symbol.asyncDispose]();
});

const { pool, tables } = database;
const tokenOf = await userTokens(provider);

async function ask(path: string, token: string, body?: object, verb = body === undefined ? "GET" : "POST") {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const reply = await send(
    `${server.url}/v1/vector_stores${path}`,
    verb,
    body && JSON.stringify(body),
    headers,
  );
  return { status: reply.status, text: reply.text };
}

async function read(path: string, token: string, body?: object) {
  const { status, text } = await ask(path, token, body);
  expect(status, text).toBe(200);
  return JSON.parse(text);
}

/** Groups, some of which look alike to JSON, LIKE or SQL. */
const GROUPS = ["a", "b", "c", "A", "a b", 'quo"te', "it's", "%", "\\", "ünï😀", "*", "null"];
const MANY = Array.from({ length: 100 }, (_, number) => `group ${number}`);
const random = createRandom(7);
const pick = (count: number) =>
  Array.from({ length: count }, () => GROUPS[Math.floor(random() * GROUPS.length)] as string);
/** What may be under `readers`: lists, and what is no list of texts. */
const readersOf = (row: number): object => {
  const odd: object[] = [
    {},
    { readers: "a" },
    { readers: { a: 1 } },
    { readers: [["a"], 1, null] },
    { readers: [] },
    { readers: null },
    { reader: ["a"] },
  ];
  return row % 4 === 0 ? (odd[(row / 4) % odd.length] as object) : { readers: pick(1 + (row % 3)) };
};
const metadata = (row: number) => ({ ...readersOf(row), part: row % 5 });
const content = (row: number) => `word${row % 7} text`;

beforeAll(async () => {
  await makeSearchStore(database, "shared", { rows: 300, dimensions: 8, metadata, content });
  await makeSearchStore(database, "indexed", {
    rows: 4_000,
    dimensions: 8,
    metadata,
    content,
    precision: "float32",
  });
  await pool.query(`update ${tables.vectorStores} set restricts_readers = true, language = 'simple'`);
});

/** Ids of the rows that the groups may read, by SQL that knows nothing of how searches are made. */
async function visible(store: string, groups: readonly string[], condition = "true"): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>(
    `select id from ${allEmbeddings(database)} where vector_store_id = $1 and ${condition} and exists (
       select from jsonb_array_elements(case jsonb_typeof(metadata -> 'readers') when 'array' then metadata -> 'readers' else '[]' end) as reader
       where jsonb_typeof(reader) = 'string' and reader #>> '{}' = any($2::text[])) order by id`,
    [store, groups],
  );
  return rows.map(({ id }) => id);
}

const idsOf = ({ data }: { data: { id: string }[] }) => data.map(({ id }) => id);
const groupsArbitrary = fc.oneof(
  { weight: 6, arbitrary: fc.uniqueArray(fc.constantFrom(...GROUPS), { maxLength: 4 }) },
  {
    weight: 1,
    arbitrary: fc.uniqueArray(fc.constantFrom(...GROUPS), { maxLength: 3 }).map((few) => [...few, ...MANY]),
  },
);
const vector = () => Array.from({ length: 8 }, () => random() - 0.5);
const RUNS = { numRuns: 12 };

describe.each(["shared", "indexed"])("in a %s store", (store) => {
  test("searches find what the groups may read", async () => {
    await fc.assert(
      fc.asyncProperty(groupsArbitrary, async (groups) => {
        const token = await tokenOf(groups);
        const may = new Set(await visible(store, groups));
        const may3 = new Set(await visible(store, groups, "(metadata ->> 'part')::int = 3"));
        const hybrid = { hybrid_search: { embedding_weight: 1, text_weight: 1 } };
        const keywords = { hybrid_search: { embedding_weight: 0, text_weight: 1 } };
        const filters = { type: "eq", key: "part", value: 3 };
        const search = (body: object) =>
          read(`/${store}/search`, token, { embedding: vector(), max_num_results: 50, ...body });
        const check = (found: { data: { id: string }[] }, among: Set<string>) => {
          for (const id of idsOf(found)) expect(among).toContain(id);
          expect(found.data.length).toBe(Math.min(50, among.size));
        };
        check(await search({}), may);
        check(await search({ exact: true }), may);
        check(await search({ diversity: 0.5 }), may);
        check(await search({ group_by: "file" }), may);
        check(await search({ filters }), may3);
        check(
          await search({ filters: { type: "and", filters: [filters, { type: "text", value: "text" }] } }),
          may3,
        );
        check(await search({ filters: { type: "or", filters: [filters, filters] } }), may3);
        check(await search({ query: "word1 word2", ranking_options: hybrid }), may);
        const byWords = await search({
          query: "text",
          embedding: undefined,
          ranking_options: keywords,
        });
        check(byWords, may);
        const batch = await read(`/${store}/search/batch`, token, {
          searches: [{ embedding: vector() }, { embedding: vector(), filters }],
        });
        for (const id of idsOf(batch.data[0])) expect(may).toContain(id);
        for (const id of idsOf(batch.data[1])) expect(may3).toContain(id);
        expect(batch.data[1].data.length).toBe(Math.min(10, may3.size));
        const nearest = await search({ exact: true, embedding: [1, 0, 0, 0, 0, 0, 0, 0] });
        const { rows } = await pool.query(
          `select id from ${allEmbeddings(database)} where vector_store_id = $1 and id = any($2)
           order by embedding <=> '[1,0,0,0,0,0,0,0]', id limit 50`,
          [store, [...may]],
        );
        expect(idsOf(nearest)).toEqual(rows.map(({ id }) => id));
      }),
      { ...RUNS, examples: [[["a", ...MANY]], [[]]] },
    );
  });

  test("a key that searches for somebody finds what that one may read", async () => {
    await fc.assert(
      fc.asyncProperty(groupsArbitrary, groupsArbitrary, async (groups, own) => {
        const may = new Set(await visible(store, groups));
        const body = { embedding: vector(), max_num_results: 50, exact: true, readers: { any_of: groups } };
        const found = idsOf(await read(`/${store}/search`, key, body));
        expect(found.length).toBe(Math.min(50, may.size));
        for (const id of found) expect(may).toContain(id);
        const alsoOwn = new Set(await visible(store, own));
        const both = idsOf(await read(`/${store}/search`, await tokenOf(own), body));
        for (const id of both) expect(may.has(id) && alsoOwn.has(id)).toBe(true);
        expect(both.length).toBe(Math.min(50, [...may].filter((id) => alsoOwn.has(id)).length));
      }),
      RUNS,
    );
  });

  test("lists, gets and exports have what the groups may read", async () => {
    await fc.assert(
      fc.asyncProperty(groupsArbitrary, async (groups) => {
        const token = await tokenOf(groups);
        const may = await visible(store, groups);
        const listed: string[] = [];
        for (let after = ""; ;) {
          const page = await read(`/${store}/embeddings?order=asc&limit=100${after}`, token);
          listed.push(...idsOf(page));
          if (page.has_more === false) break;
          after = `&after=${page.last_id}`;
        }
        expect(listed).toEqual(may);
        const { text } = await ask(`/${store}/embeddings/export`, token);
        const exported = text.split("\n").filter((line) => line !== "");
        expect(exported.map((line) => (JSON.parse(line) as { id: string }).id)).toEqual(may);
        const first = await read(`/${store}/embeddings/query`, token, { limit: 1_000 });
        const more =
          first.has_more === true
            ? await read(`/${store}/embeddings/query`, token, { limit: 1_000, page: first.next_page })
            : { data: [] };
        expect([...idsOf(first), ...idsOf(more)].toSorted()).toEqual(may.toSorted());
        expect((await read(`/${store}/embeddings/count`, token, {})).count).toBe(may.length);
        const part3 = await visible(store, groups, "(metadata ->> 'part')::int = 3");
        const { data } = await read(`/${store}/embeddings/facets`, token, { attributes: ["part"] });
        const counted = (data[0].values as { value: number; count: number }[]).find(
          ({ value }) => value === 3,
        );
        expect(counted?.count ?? 0).toBe(part3.length);
        for (const row of [1, 4, 5, 6, 7]) {
          const id = `r${String(row).padStart(7, "0")}`;
          const { status, text: body } = await ask(`/${store}/embeddings/${id}`, token);
          expect(status).toBe(may.includes(id) ? 200 : 404);
          if (status === 404) {
            const none = await ask(`/${store}/embeddings/none`, token);
            expect(body.replace(id, "none")).toBe(none.text);
          }
        }
      }),
      { numRuns: 5 },
    );
  });

  test("counts tell nothing to callers with readers, and all to others", async () => {
    const counted = await read(`/${store}`, key);
    expect(counted).toMatchObject({ restrict_readers: true, embedding_count: expect.any(Number) });
    expect(counted.embedding_count).toBeGreaterThan(0);
    const none = { usage_bytes: 0, embedding_count: 0, file_counts: { total: 0 } };
    expect(await read(`/${store}`, await tokenOf(["a"]))).toMatchObject(none);
    const { data } = await read("", await tokenOf(["a"]));
    expect(data.find(({ id }: { id: string }) => id === store)).toMatchObject(none);
  });

  test("a token without the claim sees nothing, and a key everything", async () => {
    const body = { embedding: vector(), max_num_results: 5, exact: true };
    expect((await read(`/${store}/search`, await tokenOf(undefined), body)).data).toEqual([]);
    expect((await read(`/${store}/embeddings`, await tokenOf(undefined))).data).toEqual([]);
    expect((await read(`/${store}/search`, key, body)).data).toHaveLength(5);
  });
});

test("a walk of the vector index finds only what the groups may read", async () => {
  const groups = GROUPS.slice(0, 6);
  const may = new Set(await visible("indexed", groups));
  const token = await tokenOf(groups);
  for (let time = 0; time < 20; time++) {
    const found = await read("/indexed/search", token, { embedding: vector() });
    expect(found.statistics).toMatchObject({ method: "index", complete: true });
    expect(found.data).toHaveLength(10);
    for (const id of idsOf(found)) expect(may).toContain(id);
  }
});

test("a store that comes to restrict its readers, or no longer does, is searched so at once", async () => {
  await makeSearchStore(database, "changing", { rows: 20, dimensions: 8 });
  const replica = await startServer({ database, tokens: provider.settings });
  const token = await tokenOf(["a"]);
  const count = async () => {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const body = JSON.stringify({ embedding: vector() });
    const { text } = await send(`${replica.url}/v1/vector_stores/changing/search`, "POST", body, headers);
    return JSON.parse(text).data.length;
  };
  expect(await count()).toBe(10);
  expect(await read("/changing", key, { restrict_readers: true })).toMatchObject({ restrict_readers: true });
  expect(await count()).toBe(0);
  expect(await read("/changing", key, { name: "renamed" })).toMatchObject({ restrict_readers: true });
  expect((await ask("/changing", key, { restrict_readers: null })).status).toBe(400);
  expect(await count()).toBe(0);
  await read("/changing", key, { restrict_readers: false });
  expect(await count()).toBe(10);
  await replica[Symbol.asyncDispose]();
});

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  test("a passage has the chunks around that the user may read", async () => {
    const made = await call("VectorStoreService/CreateVectorStore", { restrict_readers: true }, { key });
    const of = { vector_store_id: made.id };
    const readable = [true, false, true, true, true, true, true, false, true];
    const embeddings = readable.map((isMine, place) => ({
      id: `file_${place}`,
      content: `chunk ${place}`,
      embedding: [1, place],
      metadata: { readers: [isMine ? "user:1" : "user:2"] },
    }));
    await call("EmbeddingService/BatchCreateEmbeddings", { ...of, embeddings }, { key });
    await pool.query(
      `update ${tables.embeddings} set file_id = 'file', chunk_index = substr(id, 6)::int where vector_store_id = $1`,
      [made.id],
    );
    const request = { ...of, embedding: [1, 4], max_num_results: 1, neighbors: 10, exact: true };
    const { data } = await call("SearchService/Search", request, { key: await tokenOf(["user:1"]) });
    expect(data[0]).toMatchObject({ id: "file_4", passage: { first_chunk: 2, last_chunk: 6 } });
    const all = await call("SearchService/Search", request, { key });
    expect(all.data[0].passage).toMatchObject({ first_chunk: 0, last_chunk: 8 });
  });

  test("a store is made to restrict its readers, and its searches and lists do", async () => {
    const made = await call("VectorStoreService/CreateVectorStore", { restrict_readers: true }, { key });
    expect(made).toMatchObject({ restrict_readers: true });
    const of = { vector_store_id: made.id };
    const add = (id: string, readers: string[]) => {
      const embedding = { id, content: id, embedding: [1, 2], metadata: { readers } };
      return call("EmbeddingService/BatchCreateEmbeddings", { ...of, embeddings: [embedding] }, { key });
    };
    await add("mine", ["user:1", "team"]);
    await add("theirs", ["user:2"]);
    const token = await tokenOf(["user:1"]);
    const search = (more: object, by: string) =>
      call("SearchService/Search", { ...of, embedding: [1, 2], ...more }, { key: by });
    expect(idsOf(await search({}, token))).toEqual(["mine"]);
    expect(idsOf(await search({ readers: { any_of: ["user:2"] } }, key))).toEqual(["theirs"]);
    expect(idsOf(await search({ readers: { any_of: [] } }, key))).toEqual([]);
    expect(idsOf(await search({ readers: { any_of: ["user:2"] } }, token))).toEqual([]);
    expect(idsOf(await search({}, key))).toHaveLength(2);
    const listed = await call("EmbeddingService/ListEmbeddings", of, { key: token });
    expect(idsOf(listed)).toEqual(["mine"]);
  });
});

test("files have readers, which their chunks get", async () => {
  const upload = async (text: string) => {
    const form = new FormData();
    form.set("purpose", "assistants");
    form.set("file", new Blob([text]), `${text}.txt`);
    const headers = { authorization: `Bearer ${key}` };
    const reply = await fetch(`${server.url}/v1/files`, { method: "POST", headers, body: form });
    return ((await reply.json()) as { id: string }).id;
  };
  const [mine, theirs] = [await upload("mine"), await upload("theirs")];
  await read("", key, { id: "files", restrict_readers: true });
  await read("/files/files", key, { file_id: mine, attributes: { readers: ["team"], year: 2 } });
  await read("/files/files", key, { file_id: theirs, attributes: { readers: ["others"] } });
  await expect
    .poll(async () => (await read("/files", key)).file_counts.completed, { timeout: 30_000 })
    .toBe(2);
  const token = await tokenOf(["team"]);
  const found = await read("/files/search", token, { query: "mine theirs" });
  expect(found.data).toMatchObject([{ file_id: mine, attributes: { readers: ["team"], year: 2 } }]);
  expect(idsOf(await read("/files/files", token))).toEqual([mine]);
  expect((await ask(`/files/files/${mine}/content`, token)).status).toBe(200);
  for (const path of [`/files/files/${theirs}`, `/files/files/${theirs}/content`])
    expect((await ask(path, token)).status).toBe(404);
  const hidden = await ask(`/files/files?after=${theirs}`, token);
  const unknown = await ask(`/files/files?after=file-none`, token);
  expect(hidden.text.replace(theirs, "file-none")).toBe(unknown.text);
  expect((await ask(`/files/files?after=${mine}`, token)).status).toBe(200);
  const project = async (path: string, verb = "GET") =>
    send(`${server.url}/v1/files${path}`, verb, undefined, { authorization: `Bearer ${token}` });
  expect(JSON.parse((await project("")).text).data).toEqual([]);
  expect((await project(`/${theirs}/content`)).status).toBe(404);
  expect((await project(`/${theirs}`, "DELETE")).status).toBe(404);
  const change = (readers: unknown) => ask(`/files/files/${theirs}`, key, { attributes: { readers } });
  expect((await change(["team"])).status).toBe(200);
  expect((await read("/files/search", token, { query: "theirs" })).data).toHaveLength(2);
  expect((await change([1])).status).toBe(400);
  expect((await change(Array(257).fill("x"))).status).toBe(400);
  expect((await ask(`/files/files/${theirs}`, key, { attributes: { others: ["x"] } })).status).toBe(400);
});
