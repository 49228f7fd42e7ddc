import { OpenAI } from "openai";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { openTestDatabase } from "../support/databases/database.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";

type Filters = NonNullable<OpenAI.VectorStoreSearchParams["filters"]>;

const NO_FILES = { in_progress: 0, completed: 0, failed: 0, cancelled: 0, total: 0 };

let server: TestServer;
let client: OpenAI;

beforeAll(async () => {
  server = await startServer();
  client = clientOf(server);
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

function clientOf({ url }: TestServer): OpenAI {
  return new OpenAI({ apiKey: "any", baseURL: `${url}/v1`, maxRetries: 0 });
}

/** Puts texts, with their metadata and ids, into a new store. Returns its id. */
async function fill(embeddings: { id?: string; content: string; metadata?: object }[]): Promise<string> {
  const { id } = await client.vectorStores.create({});
  await client.post(`/vector_stores/${id}/embeddings/batch`, { body: { embeddings } });
  return id;
}

async function idsFound(store: string, body: OpenAI.VectorStoreSearchParams): Promise<string[]> {
  const page = await client.vectorStores.search(store, body);
  return page.data.map((result) => result.file_id);
}

/** Every member of a type of the client's, which the compiler holds to it: one more or less does not compile. */
function membersOf<T>(members: Record<keyof T, true>): string[] {
  return Object.keys(members).toSorted();
}

test("a page of a search has OpenAI's members and no others where it is asked for so", async () => {
  const store = await fill([{ content: "a", metadata: { kind: "letter" } }]);
  const body = { query: "a", response_format: "openai" };
  const page = await client.post<Record<string, unknown>>(`/vector_stores/${store}/search`, { body });
  expect(Object.keys(page).toSorted()).toEqual(["data", "has_more", "next_page", "object", "search_query"]);
  const [found] = page["data"] as OpenAI.VectorStoreSearchResponse[];
  const members = { attributes: true, content: true, file_id: true, filename: true, score: true } as const;
  expect(Object.keys(found ?? {}).toSorted()).toEqual(membersOf<OpenAI.VectorStoreSearchResponse>(members));
  expect(found?.attributes).toEqual({ kind: "letter" });
});

test("a store without a name has the empty one, as the client's type wants a text", async () => {
  const { id } = await client.vectorStores.create({});
  const [listed] = (await client.vectorStores.list({ limit: 1 })).data;
  const names: string[] = [(await client.vectorStores.retrieve(id)).name, String(listed?.name)];
  expect(names).toEqual(["", ""]);
  expect((await client.vectorStores.update(id, { name: "Named" })).name).toBe("Named");
  expect((await client.vectorStores.update(id, { name: null })).name).toBe("");
});

describe("create and retrieve", () => {
  test("a store needs nothing", async () => {
    const store = await client.vectorStores.create({});
    expect(store).toEqual({
      id: expect.stringMatching(/^vs_[0-9a-f]{32}$/),
      object: "vector_store",
      created_at: expect.any(Number),
      name: "",
      description: null,
      usage_bytes: 0,
      file_counts: NO_FILES,
      status: "completed",
      expires_after: null,
      expires_at: null,
      last_active_at: store.created_at,
      metadata: {},
      dimensions: null,
      embedding_model: null,
      embedding_count: 0,
      precision: null,
      language: "english",
      index_state: "none",
      restrict_readers: false,
    });
    expect(Math.abs(store.created_at - Date.now() / 1000)).toBeLessThan(60);
  });

  test("a store has every field it was given, also when read again", async () => {
    const given = {
      name: "Support FAQ",
      description: "Questions, answers, Übung \u{1F3F9}",
      metadata: { team: "support", empty: "" },
      expires_after: { anchor: "last_active_at" as const, days: 7 },
    };
    const store = await client.vectorStores.create({
      ...given,
      file_ids: [],
      chunking_strategy: {
        type: "static",
        static: { max_chunk_size_tokens: 800, chunk_overlap_tokens: 400 },
      },
    });
    expect(store).toMatchObject({ ...given, expires_at: store.created_at + 7 * 86_400 });
    expect(await client.vectorStores.retrieve(store.id)).toEqual(store);
  });

  test("a store has the id and the dimensions its creator chose", async () => {
    const body = { id: "faq:2026.v1", dimensions: 3 };
    await expect(client.post("/vector_stores", { body })).resolves.toMatchObject(body);
    await expect(client.vectorStores.retrieve("faq:2026.v1")).resolves.toMatchObject(body);
  });
});

describe("update", () => {
  async function createFull(): Promise<OpenAI.VectorStore> {
    return client.vectorStores.create({
      name: "Old",
      description: "Kept",
      metadata: { a: "1", b: "2" },
      expires_after: { anchor: "last_active_at", days: 1 },
    });
  }

  test.each<[string, OpenAI.VectorStoreUpdateParams]>([
    ["the name", { name: "New" }],
    ["the metadata, as a whole", { metadata: { c: "3" } }],
    ["nothing", {}],
  ])("changes %s and keeps the rest", async (_field, change) => {
    const store = await createFull();
    const changed = await client.vectorStores.update(store.id, change);
    expect(changed).toEqual({ ...store, ...change });
    expect(await client.vectorStores.retrieve(store.id)).toEqual(changed);
  });

  test("computes the expiry again", async () => {
    const store = await createFull();
    const changed = await client.vectorStores.update(store.id, {
      expires_after: { anchor: "last_active_at", days: 30 },
    });
    expect(changed.expires_at).toBe(Number(store.last_active_at) + 30 * 86_400);
  });

  test.each([
    ["name", { name: "" }],
    ["metadata", { metadata: {} }],
    ["expires_after", { expires_after: null, expires_at: null }],
  ])("clears %s where it is null and keeps the rest", async (field, cleared) => {
    const store = await createFull();
    const changed = await client.vectorStores.update(store.id, { [field]: null });
    expect(changed).toEqual({ ...store, ...cleared });
    expect(await client.vectorStores.retrieve(store.id)).toEqual(changed);
  });
});

describe("list", () => {
  /** A server with seven stores, four of them created at the same instant. */
  async function startWithStores(): Promise<{ client: OpenAI; ids: string[] }> {
    const database = await openTestDatabase();
    const own = await startServer({ database });
    onTestFinished(async () => {
      await own[Symbol.asyncDispose]();
      await database.close();
    });
    // Without the index, which has the order too, it is the statement's own.
    await database.pool.query("drop index vector_stores_created_at_id_idx");
    await database.pool.query(`insert into vector_stores (id, created_at)
      select 'store-' || (i * 5) % 7, '2026-01-01'::timestamptz + greatest(i, 3) * interval '1 s' from generate_series(0, 6) as i`);
    const { rows } = await database.pool.query<{ id: string }>(
      "select id from vector_stores order by created_at, id",
    );
    return { client: clientOf(own), ids: rows.map((row) => row.id) };
  }

  test("walks all stores once by pages, in both orders, newest first without one", async () => {
    const { client: own, ids } = await startWithStores();
    for (const limit of [1, 2, 3, 7]) {
      expect(await walk(own, { limit, order: "asc" })).toEqual(ids);
      expect(await walk(own, { limit, order: "desc" })).toEqual(ids.toReversed());
    }
    expect(await walk(own, { limit: 2 })).toEqual(ids.toReversed());
  });

  test.each(["asc", "desc"] as const)("walks all stores while the loop deletes them, %s", async (order) => {
    const { client: own, ids } = await startWithStores();
    // Ids the service made carry their time, by which it goes on after a store that is gone.
    const made = [];
    for (const name of ["a", "b", "c", "d", "e"]) made.push((await own.vectorStores.create({ name })).id);
    for (const id of ids) await own.vectorStores.delete(id);
    const seen: string[] = [];
    for await (const { id } of own.vectorStores.list({ limit: 2, order })) {
      seen.push(id);
      await own.vectorStores.delete(id);
    }
    expect(seen).toEqual(order === "asc" ? made : made.toReversed());
    expect(await walk(own, {})).toEqual([]);
  });

  test("reads the page before a store", async () => {
    const { client: own, ids } = await startWithStores();
    const page = await own.vectorStores.list({ limit: 2, order: "asc", before: String(ids[4]) });
    expect(page.data.map(({ id }) => id)).toEqual([ids[2], ids[3]]);
    expect(page.has_more).toBe(true);
  });

  test("stops at the last page, and an empty list has no ends", async () => {
    const { client: own, ids } = await startWithStores();
    const last = await own.get("/vector_stores", { query: { order: "asc", after: ids[4], limit: 2 } });
    expect(last).toMatchObject({ object: "list", first_id: ids[5], last_id: ids[6], has_more: false });
    const none = await own.get("/vector_stores", { query: { order: "asc", after: ids[6] } });
    expect(none).toEqual({ object: "list", data: [], first_id: null, last_id: null, has_more: false });
  });

  async function walk(own: OpenAI, query: OpenAI.VectorStoreListParams): Promise<string[]> {
    const seen: string[] = [];
    for await (const { id } of own.vectorStores.list(query)) seen.push(id);
    return seen;
  }
});

describe("delete", () => {
  test("takes the embeddings along, and is final", async () => {
    const store = await fill([{ content: "one" }, { content: "two" }]);
    const kept = await fill([{ content: "three" }]);
    expect(await client.vectorStores.delete(store)).toEqual({
      id: store,
      object: "vector_store.deleted",
      deleted: true,
    });
    const { rows } = await server.database.pool.query(
      "select vector_store_id as store, count(*)::int from embeddings where vector_store_id = any ($1) group by 1",
      [[store, kept]],
    );
    expect(rows).toEqual([{ store: kept, count: 1 }]);
    await expect(client.vectorStores.retrieve(store)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(client.vectorStores.delete(store)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });
});

describe("search", () => {
  const BOOKS = [
    { id: "a", content: "Apples and pears", metadata: { lang: "en", year: 2020, open: true } },
    { id: "b", content: "Birnen und Äpfel", metadata: { lang: "de", year: 2021.5, open: false } },
    { id: "c", content: "Cerises sauvages", metadata: { lang: "fr" } },
    { id: "d", content: "Dates from the oasis", metadata: { lang: "en", year: "2020", filename: "d.txt" } },
  ];
  let books: string;

  beforeAll(async () => {
    books = await fill(BOOKS);
  });

  test("finds the text that is asked for, best first, as OpenAI's results", async () => {
    const { data, ...page } = await client.vectorStores.search(books, { query: "sweet dates of an oasis" });
    expect(page).toMatchObject({ object: "vector_store.search_results.page" });
    expect(data).toHaveLength(4);
    expect(data[0]).toMatchObject({
      file_id: "d",
      filename: "d.txt",
      score: expect.any(Number),
      attributes: BOOKS[3]?.metadata,
      content: [{ type: "text", text: "Dates from the oasis" }],
    });
    const scores = data.map(({ score }) => score);
    expect(scores).toEqual(scores.toSorted((a, b) => b - a));
    expect(scores.every((score) => score >= 0 && score <= 1)).toBe(true);
  });

  test("searches for several texts at once and merges the results by their best score", async () => {
    const texts = ["Apples and pears", "Cerises sauvages"];
    const { data } = await client.vectorStores.search(books, { query: texts });
    expect(data.map(({ file_id }) => file_id).slice(0, 2)).toEqual(["a", "c"]);
    expect(data.map(({ file_id }) => file_id).toSorted()).toEqual(["a", "b", "c", "d"]);
    expect(data[1]?.score).toBeCloseTo(1, 5);
    const reply = await client.post(`/vector_stores/${books}/search`, { body: { query: texts } });
    expect(reply).toMatchObject({ search_query: texts, has_more: false, next_page: null });
  });

  test("returns no more than max_num_results, and the best", async () => {
    expect(await idsFound(books, { query: "pears and apples", max_num_results: 1 })).toEqual(["a"]);
  });

  test("leaves out what scores below the threshold, whichever known ranker is named", async () => {
    for (const ranker of ["none", "auto", "default-2024-11-15"] as const) {
      const ranking_options = { ranker, score_threshold: 0.9 };
      expect(await idsFound(books, { query: "Birnen und Äpfel", ranking_options })).toEqual(["b"]);
    }
  });

  test("takes rewrite_query, and searches for the query as it is", async () => {
    const query = "Cerises sauvages";
    expect(await idsFound(books, { query, rewrite_query: true })).toEqual(await idsFound(books, { query }));
  });

  const not = (filters: string[]) => ["a", "b", "c", "d"].filter((id) => !filters.includes(id));
  test.each<[Filters, string[]]>([
    [{ type: "eq", key: "lang", value: "en" }, ["a", "d"]],
    [{ type: "eq", key: "year", value: 2020 }, ["a"]],
    [{ type: "eq", key: "year", value: "2020" }, ["d"]],
    [{ type: "eq", key: "open", value: true }, ["a"]],
    [{ type: "eq", key: "open", value: "true" }, []],
    [{ type: "ne", key: "year", value: 2020 }, not(["a"])],
    [{ type: "ne", key: "open", value: false }, not(["b"])],
    [{ type: "gt", key: "year", value: 2020 }, ["b"]],
    [{ type: "gt", key: "lang", value: "de" }, not(["b"])],
    [{ type: "gte", key: "year", value: 2020 }, ["a", "b"]],
    [{ type: "lt", key: "year", value: 2021.5 }, ["a"]],
    [{ type: "lte", key: "year", value: 2021.5 }, ["a", "b"]],
    [{ type: "in", key: "lang", value: ["fr", "de", "xx"] }, ["b", "c"]],
    [{ type: "in", key: "year", value: [2020, "2020"] }, ["a", "d"]],
    [{ type: "in", key: "lang", value: [] }, []],
    [{ type: "nin", key: "year", value: [2020] }, not(["a"])],
    [{ type: "nin", key: "lang", value: [] }, not([])],
    [
      {
        type: "and",
        filters: [
          { type: "eq", key: "lang", value: "en" },
          { type: "ne", key: "year", value: "2020" },
        ],
      },
      ["a"],
    ],
    [
      {
        type: "or",
        filters: [
          { type: "eq", key: "lang", value: "fr" },
          { type: "and", filters: [{ type: "or", filters: [{ type: "lt", key: "year", value: 2021 }] }] },
        ],
      },
      ["a", "c"],
    ],
  ])("finds what matches %j and nothing else", async (filters, expected) => {
    expect((await idsFound(books, { query: "fruit", filters })).toSorted()).toEqual(expected);
  });
});
