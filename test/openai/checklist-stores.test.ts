import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { addTexts, createStore, jsonClient, type Json, type Send } from "../support/clients/json.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";

const NO_FILES = { in_progress: 0, completed: 0, failed: 0, cancelled: 0, total: 0 };

let server: TestServer;
let send: Send;

beforeAll(async () => {
  server = await startServer({ apiKeys: ["key"] });
  send = jsonClient(server.url, "key");
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

describe("ids and paging", () => {
  test("made ids need no escaping in a URL, and sort by time", async () => {
    const ids = [];
    for (let i = 0; i < 5; i++) ids.push(await createStore(send));
    expect(ids.every((id) => /^vs_[0-9a-f]{32}$/.test(id))).toBe(true);
    expect(ids).toEqual(ids.toSorted());
  });

  test("ids of other kinds are accepted, and those that need escaping are refused", async () => {
    for (const id of ["5d0f6f0e-3b1c-4e0f-9d53-0c3ad0a1f0a1", "clq1x2y3z0000abcd", "a", "z".repeat(128)]) {
      expect(await createStore(send, { id })).toBe(id);
      expect((await send("GET", `/v1/vector_stores/${id}`)).status).toBe(200);
    }
    for (const id of ["", "a/b", "a b", "\u{1F3F9}", "z".repeat(129)]) {
      expect([id, (await send("POST", "/v1/vector_stores", { id })).status]).toEqual([id, 400]);
    }
    for (const id of ["a%2Fb", "%F0%9F%8F%B9", "%00", "x".repeat(500)]) {
      expect([id, (await send("GET", `/v1/vector_stores/${id}`)).status]).toEqual([id, 404]);
    }
  });

  test("a page has 20 stores unless told, 1 to 100 as told, and refuses all else", async () => {
    await server.database.pool.query(
      "insert into vector_stores (id) select 'page-' || i from generate_series(1, 110) as i",
    );
    const count = async (query: string) =>
      ((await send("GET", `/v1/vector_stores${query}`)).json["data"] as Json[]).length;
    expect(await count("")).toBe(20);
    for (const limit of [1, 7, 100]) expect(await count(`?limit=${limit}`)).toBe(limit);
    for (const query of [
      "limit=0",
      "limit=-1",
      "limit=101",
      "limit=x",
      "limit=1.5",
      "limit=1&limit=2",
      "order=up",
      "after=unknown",
      "page=2",
    ]) {
      expect([query, (await send("GET", `/v1/vector_stores?${query}`)).status]).toEqual([query, 400]);
    }
  });

  test.each([1, 2, 3, 4, 5, 6, 7])(
    "a walk by %i meets each store once, in both orders, while others are added",
    async (limit) => {
      await using own = await startServer();
      // Without the index, which has the order too, it is the statement's own.
      await own.database.pool.query("drop index vector_stores_created_at_id_idx");
      await own.database.pool.query(
        "insert into vector_stores (id, created_at) select md5(i::text), '2026-01-01'::timestamptz + i / 3 * interval '1 s' from generate_series(1, 17) as i",
      );
      const { rows } = await own.database.pool.query<{ id: string }>(
        "select id from vector_stores order by created_at, id",
      );
      const old = rows.map(({ id }) => id);
      for (const order of ["asc", "desc"]) {
        const seen: string[] = [];
        let added = 0;
        for (let after = ""; ;) {
          const reply = await fetch(`${own.url}/v1/vector_stores?limit=${limit}&order=${order}${after}`);
          const page = (await reply.json()) as {
            data: { id: string }[];
            first_id: string;
            last_id: string;
            has_more: boolean;
          };
          seen.push(...page.data.map(({ id }) => id));
          expect([page.first_id, page.last_id]).toEqual([page.data[0]?.id, page.data.at(-1)?.id]);
          if (!page.has_more || seen.length > 100) break;
          after = `&after=${page.last_id}`;
          if (added++ < 3) await fetch(`${own.url}/v1/vector_stores`, { method: "POST" });
        }
        expect(new Set(seen).size).toBe(seen.length);
        expect(seen.filter((id) => old.includes(id))).toEqual(order === "asc" ? old : old.toReversed());
      }
    },
  );
});

describe("stores", () => {
  test("metadata is 16 pairs of at most 64 and 512 characters, all texts", async () => {
    const pairs = (count: number) =>
      Object.fromEntries(
        Array.from({ length: count }, (_, index) => [`${index}`.padStart(64, "k"), "v".repeat(512)]),
      );
    const { json } = await send("POST", "/v1/vector_stores", { metadata: pairs(16) });
    expect(json["metadata"]).toEqual(pairs(16));
    for (const metadata of [
      pairs(17),
      { ["k".repeat(65)]: "v" },
      { k: "v".repeat(513) },
      { k: 1 },
      { k: null },
      [],
      "x",
      { "": "v" },
    ]) {
      expect([metadata, (await send("POST", "/v1/vector_stores", { metadata })).status]).toEqual([
        metadata,
        400,
      ]);
    }
  });

  test("an expiry is 1 to 365 days from last_active_at", async () => {
    for (const days of [1, 365]) {
      const { json } = await send("POST", "/v1/vector_stores", {
        expires_after: { anchor: "last_active_at", days },
      });
      expect(Number(json["expires_at"]) - Number(json["last_active_at"])).toBe(days * 86_400);
    }
    for (const expires_after of [
      { anchor: "last_active_at", days: 0 },
      { anchor: "last_active_at", days: 366 },
      { anchor: "created_at", days: 1 },
      { days: 1 },
      { anchor: "last_active_at" },
      {},
    ]) {
      expect([expires_after, (await send("POST", "/v1/vector_stores", { expires_after })).status]).toEqual([
        expires_after,
        400,
      ]);
    }
  });

  /** A store with a text and a file, which was last active long ago. */
  async function createIdle() {
    const store = await createStore(send, { expires_after: { anchor: "last_active_at", days: 2 } });
    const path = `/v1/vector_stores/${store}`;
    await addTexts(send, store, ["x"]);
    const file = await uploadText();
    await send("POST", `${path}/files`, { file_id: file });
    await vi.waitFor(async () => {
      const { json } = await send("GET", `${path}/files/${file}`);
      expect(json["status"]).toBe("completed");
    }, 60_000);
    await server.database.pool.query(
      "update vector_stores set last_active_at = '2026-01-01Z', expires_at = now() + interval '1 h' where id = $1",
      [store],
    );
    return { path, file };
  }

  async function uploadText(): Promise<string> {
    const body = new FormData();
    body.set("purpose", "assistants");
    body.set("file", new File(["a text"], "text.txt"));
    const headers = { authorization: "Bearer key" };
    const reply = await fetch(`${server.url}/v1/files`, { method: "POST", headers, body });
    return ((await reply.json()) as { id: string }).id;
  }

  const IDLE_SINCE = Date.parse("2026-01-01Z") / 1000;

  type Use = (path: string, file: string) => Promise<unknown>;

  const uses: [string, Use][] = [
    ["search", (path) => send("POST", `${path}/search`, { query: "x" })],
    ["addition", (path) => send("POST", `${path}/embeddings`, { content: "y" })],
    ["attached file", async (path) => send("POST", `${path}/files`, { file_id: await uploadText() })],
    [
      "attached batch",
      async (path) => send("POST", `${path}/file_batches`, { file_ids: [await uploadText()] }),
    ],
  ];

  test.each(uses)("%s moves last_active_at and the expiry", async (_use, use) => {
    const { path, file } = await createIdle();
    expect(await use(path, file)).toMatchObject({ status: 200 });
    // Noted behind the search's back.
    const json = await vi.waitFor(async () => {
      const { json: current } = await send("GET", path);
      expect(Number(current["last_active_at"])).toBeGreaterThan(IDLE_SINCE);
      return current;
    }, 60_000);
    expect(json["expires_at"]).toBe(Number(json["last_active_at"]) + 2 * 86_400);
  });

  const noUses: [string, Use][] = [
    ["an update", (path) => send("POST", path, { name: "Renamed", metadata: { a: "b" } })],
    ["reading it", (path) => send("GET", path)],
    ["a list of its embeddings", (path) => send("GET", `${path}/embeddings`)],
    ["a file's text", (path, file) => send("GET", `${path}/files/${file}/content`)],
    ["other attributes", (path, file) => send("POST", `${path}/files/${file}`, { attributes: { a: "b" } })],
    ["a file's removal", (path, file) => send("DELETE", `${path}/files/${file}`)],
    ["the policy of its index", (path) => send("POST", `${path}/index`, { policy: "never" })],
  ];

  test.each(noUses)("%s is no use of a store", async (_name, touch) => {
    const { path, file } = await createIdle();
    expect(await touch(path, file)).toMatchObject({ status: 200 });
    expect((await send("GET", path)).json["last_active_at"]).toBe(IDLE_SINCE);
  });

  test("a new expiry counts from the last use", async () => {
    const { path } = await createIdle();
    const { json } = await send("POST", path, { expires_after: { anchor: "last_active_at", days: 365 } });
    expect(json).toMatchObject({ last_active_at: IDLE_SINCE, expires_at: IDLE_SINCE + 365 * 86_400 });
  });

  test("an expired store can be read, listed and deleted, and says why nothing else", async () => {
    const store = await createStore(send, { expires_after: { anchor: "last_active_at", days: 1 } });
    await addTexts(send, store, ["one"]);
    await server.database.pool.query(
      "update vector_stores set expires_at = now() - interval '1 s' where id = $1",
      [store],
    );
    expect((await send("GET", `/v1/vector_stores/${store}`)).json["status"]).toBe("expired");
    const listed = (await send("GET", "/v1/vector_stores?limit=100")).json["data"] as Json[];
    expect(listed.find(({ id }) => id === store)).toMatchObject({
      status: "expired",
      file_counts: { ...NO_FILES, completed: 1, total: 1 },
    });
    const calls: [string, object][] = [
      ["/search", { query: "x" }],
      ["/embeddings", { content: "two" }],
      ["", { name: "x" }],
    ];
    for (const [path, body] of calls) {
      expect(await send("POST", `/v1/vector_stores/${store}${path}`, body)).toMatchObject({
        status: 400,
        json: { error: { message: `Vector store '${store}' has expired.`, code: "vector_store_expired" } },
      });
    }
    expect((await send("DELETE", `/v1/vector_stores/${store}`)).status).toBe(200);
  });

  test("what one server writes another reads at once", async () => {
    await using other = await startServer({ database: server.database });
    const get = async (path: string) => (await fetch(other.url + path)).json() as Promise<Json>;
    const store = await createStore(send, { name: "shared" });
    expect(await get(`/v1/vector_stores/${store}`)).toMatchObject({ name: "shared" });
    await addTexts(send, store, ["one"]);
    await send("POST", `/v1/vector_stores/${store}`, { name: "renamed" });
    expect(await get(`/v1/vector_stores/${store}`)).toMatchObject({
      name: "renamed",
      file_counts: { total: 1 },
      usage_bytes: 3,
    });
    await send("DELETE", `/v1/vector_stores/${store}`);
    expect(await get(`/v1/vector_stores/${store}`)).toMatchObject({
      error: { message: expect.stringContaining("No vector store found") },
    });
  });

  test("a request that is sent again after a lost answer stores nothing twice, where it names its ids", async () => {
    const store = await createStore(send);
    const body = {
      embeddings: [
        { id: "one", content: "one" },
        { id: "two", content: "two" },
      ],
    };
    const path = `/v1/vector_stores/${store}/embeddings/batch`;
    expect((await send("POST", path, body)).status).toBe(200);
    const again = await send("POST", path, { embeddings: [{ content: "three" }, ...body.embeddings] });
    expect(again).toMatchObject({
      status: 409,
      json: { error: { code: "already_exists", param: "embeddings[1].id" } },
    });
    expect(again.headers.get("x-should-retry")).toBe("false");
    expect((await send("GET", `/v1/vector_stores/${store}`)).json).toMatchObject({
      file_counts: { total: 2 },
      usage_bytes: 6,
    });
  });
});
