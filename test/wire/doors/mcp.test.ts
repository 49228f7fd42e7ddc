import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { OpenAI, toFile } from "openai";
import { afterAll, describe, expect, test } from "vitest";
import type { Reply } from "../../support/clients/client.ts";
import { makePdf } from "../../support/stores/documents.ts";
import { HANDBOOK, startDoorServer } from "../../support/servers/door-server.ts";
import { send } from "../../support/clients/http.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startDoorServer({ audit: { includesReads: true, retentionDays: 1 } as never });
const { key, fileId, keyWith, ask } = server;
afterAll(() => server[Symbol.asyncDispose]());

/** Connects the SDK's own client; `query` goes to the URL. */
async function connect(bearer: string, { query = "", headers = {} as Record<string, string> } = {}) {
  const client = new Client({ name: "test", version: "1" });
  await client.connect(
    new StreamableHTTPClientTransport(new URL(`${server.url}/mcp${query}`), {
      requestInit: { headers: { authorization: `Bearer ${bearer}`, ...headers } },
    }) as never,
  );
  return client;
}

/** Calls a tool once, and returns its structured content, or the text of its error. */
async function use(
  bearer: string,
  name: string,
  args: object,
  options: { query?: string; headers?: Record<string, string> } = {},
) {
  const client = await connect(bearer, options);
  try {
    const reply = (await client.callTool({ name, arguments: { ...args } })) as {
      content: { type: string; text: string }[];
      structuredContent?: Reply;
      isError?: boolean;
    };
    expect(reply.content).toHaveLength(1);
    const text = reply.content[0]?.text ?? "";
    if (reply.isError !== true) expect(JSON.parse(text)).toEqual(reply.structuredContent);
    return { isError: reply.isError === true, text, ...reply.structuredContent };
  } finally {
    await client.close();
  }
}

const post = (body: unknown, headers: Record<string, string> = {}) =>
  send(`${server.url}/mcp`, "POST", typeof body === "string" ? body : JSON.stringify(body), {
    authorization: `Bearer ${key}`,
    "content-type": "application/json",
    accept: "application/json, text/event-stream",
    ...headers,
  });
const listTools = { jsonrpc: "2.0", id: 1, method: "tools/list" };

describe("the tools", () => {
  test("are listed with their arguments, and only read", async () => {
    const client = await connect(key);
    const { tools } = await client.listTools();
    expect(tools.map(({ name }) => name)).toEqual([
      "search",
      "fetch",
      "list_stores",
      "search_store",
      "list_files",
      "get_file_text",
    ]);
    for (const { annotations } of tools) expect(annotations?.readOnlyHint).toBe(true);
    expect(tools[0]?.inputSchema).toMatchObject({
      required: ["query"],
      properties: { query: { type: "string" } },
    });
    expect(Object.keys(tools[1]?.inputSchema.properties ?? {})).toEqual(["id"]);
    expect(client.getServerVersion()?.name).toBe("pgquiver");
    await client.close();
  });

  test("search finds documents of all stores, each once, and fetch reads them whole", async () => {
    const { results } = await use(key, "search", { query: "returns" });
    const ids = results.map(({ id }: { id: string }) => id);
    expect(ids.toSorted()).toEqual(
      [
        `handbook/files/${fileId}`,
        "faq/embeddings/e1",
        "faq/embeddings/e2",
        "private/embeddings/p1",
      ].toSorted(),
    );
    const byId = new Map<string, Reply>(results.map((one: { id: string }) => [one.id, one]));
    expect(byId.get(`handbook/files/${fileId}`)).toEqual({
      id: `handbook/files/${fileId}`,
      title: "handbook.txt",
      url: `${server.url}/v1/vector_stores/handbook/files/${fileId}/content`,
      text: HANDBOOK,
    });
    expect(byId.get("faq/embeddings/e1")).not.toHaveProperty("page");
    expect(byId.get("faq/embeddings/e2").url).toBe("https://example.com/de");
    expect(byId.get("private/embeddings/p1").title).toBe("The secret of returns.");

    expect(await use(key, "fetch", { id: `handbook/files/${fileId}` })).toMatchObject({
      id: `handbook/files/${fileId}`,
      title: "handbook.txt",
      text: HANDBOOK,
      url: byId.get(`handbook/files/${fileId}`).url,
      metadata: { filename: "handbook.txt" },
    });
    expect(await use(key, "fetch", { id: "faq/embeddings/e1" })).toMatchObject({
      title: "faq.md",
      text: expect.stringContaining("How returns work."),
      metadata: { lang: "en", year: 2024 },
    });
  });

  test("search tells the page and the headings of what it found", async () => {
    const found = async (name: string, data: Buffer) => {
      const openai = new OpenAI({ apiKey: key, baseURL: `${server.url}/v1`, maxRetries: 0 });
      const { id } = await openai.vectorStores.create({});
      await openai.vectorStores.files.uploadAndPoll(id, await toFile(data, name));
      const { results } = await use(key, "search", { query: "quaggas" }, { query: `?stores=${id}` });
      await openai.vectorStores.delete(id);
      return results[0];
    };
    expect(await found("a.pdf", await makePdf(["", "Quaggas are gone."]))).toMatchObject({ page: 2 });
    const markdown = Buffer.from("# Zoo\n\n## Africa\n\nQuaggas are gone.");
    expect(await found("a.md", markdown)).toMatchObject({ headings: ["Zoo"], title: "a.md" });
  });

  test("search covers the stores of the URL or of the header only", async () => {
    for (const options of [
      { query: "?stores=faq,handbook" },
      { headers: { "x-vector-stores": "faq, handbook" } },
    ]) {
      const { results } = await use(key, "search", { query: "returns" }, options);
      expect(results).toHaveLength(3);
      expect(JSON.stringify(results)).not.toContain("secret");
    }
    const many = Array.from({ length: 17 }, (_, index) => `s${index}`).join();
    const refused = await use(key, "search", { query: "returns" }, { query: `?stores=${many}` });
    expect(refused).toMatchObject({ isError: true, text: expect.stringContaining("maximum length 16") });
  });

  test("search leaves out a store that has gone, unless it is the only one", async () => {
    const { results } = await use(key, "search", { query: "returns" }, { query: "?stores=gone,faq" });
    expect(results).toHaveLength(2);
    const alone = await use(key, "search", { query: "returns" }, { query: "?stores=gone" });
    expect(alone).toMatchObject({ isError: true, text: expect.stringContaining("gone") });
  });

  test("list_stores, search_store, list_files and get_file_text show one store at a time", async () => {
    const first = await use(key, "list_stores", { limit: 2 });
    expect(first).toMatchObject({ has_more: true });
    const second = await use(key, "list_stores", { limit: 2, after: first.last_id });
    const names = [...first.stores, ...second.stores].map(({ id }: { id: string }) => id);
    expect(names).toEqual(["private", "faq", "handbook"]);

    const filters = {
      type: "and",
      filters: [
        { type: "eq", key: "lang", value: "en" },
        { type: "gt", key: "year", value: 2000 },
      ],
    };
    const found = await use(key, "search_store", { store_id: "faq", query: "returns", filters, limit: 5 });
    expect(found.results).toMatchObject([{ id: "e1", attributes: { lang: "en" } }]);

    expect(await use(key, "list_files", { store_id: "handbook" })).toMatchObject({
      files: [{ id: fileId, filename: "handbook.txt", status: "completed" }],
      has_more: false,
    });
    const part = { store_id: "handbook", file_id: fileId, offset: 8, limit: 3 };
    expect(await use(key, "get_file_text", part)).toMatchObject({
      text: "are",
      characters: HANDBOOK.length,
      has_more: true,
    });
  });

  test.each<[string, object, string]>([
    ["search", {}, "query"],
    ["search", { query: 1 }, "query"],
    ["search", { query: "returns", store: "faq" }, "store"],
    ["search", { query: "x".repeat(32_769) }, "query"],
    ["fetch", { id: "faq" }, "id"],
    ["fetch", { id: "faq/embeddings/none" }, "none"],
    ["search_store", { store_id: "faq", query: "a", limit: 51 }, "limit"],
    [
      "search_store",
      { store_id: "faq", query: "a", filters: { type: "like", key: "a", value: "b" } },
      "like",
    ],
    ["list_files", { store_id: "faq", limit: 51 }, "limit"],
    ["get_file_text", { store_id: "faq", file_id: "file-none" }, "file-none"],
  ])("%s says what is wrong with %j", async (name, args, named) => {
    expect(await use(key, name, args)).toMatchObject({ isError: true, text: expect.stringContaining(named) });
  });

  test("an unknown tool is an error of the protocol", async () => {
    const { json } = {
      json: JSON.parse((await post({ ...listTools, method: "tools/call", params: { name: "drop" } })).text),
    };
    expect(json).toMatchObject({ id: 1, error: { code: -32_602, message: expect.stringContaining("drop") } });
  });
});

/** A call of each tool in a store, and the scopes it needs. */
const uses: [string, (store: string) => object, string[]][] = [
  ["search_store", (store) => ({ store_id: store, query: "returns" }), ["search"]],
  ["list_files", (store) => ({ store_id: store }), ["files.read"]],
  ["get_file_text", (store) => ({ store_id: store, file_id: fileId }), ["files.read"]],
];

describe("access control", () => {
  test.each<[string, object, string[], string]>([
    ["search", { query: "returns" }, ["search", "stores.read"], "search"],
    ["search", { query: "returns" }, ["search", "stores.read"], "stores.read"],
    ["fetch", { id: "faq/embeddings/e1" }, ["embeddings.read"], "embeddings.read"],
    ["fetch", { id: "handbook/files/file" }, ["files.read"], "files.read"],
    ["list_stores", {}, ["stores.read"], "stores.read"],
    ...uses.map(([name, args, scopes]): [string, object, string[], string] => [
      name,
      args("handbook"),
      scopes,
      scopes[0] as string,
    ]),
  ])("%s %j needs the scope that its RPC needs", async (name, args, needed, missing) => {
    const sent = JSON.parse(JSON.stringify(args).replace("files/file", `files/${fileId}`)) as object;
    expect(await use(await keyWith(needed), name, sent)).toMatchObject({ isError: false });
    const without = await keyWith([...needed.filter((scope) => scope !== missing), "operator"]);
    expect(await use(without, name, sent)).toMatchObject({
      isError: true,
      text: expect.stringContaining(missing),
    });
  });

  test.each(uses)("%s treats a foreign or unlisted store as one that does not exist", async (name, args) => {
    const listed = await keyWith(undefined, ["faq", "handbook"]);
    const none = await use(key, name, args("none"));
    expect(none).toMatchObject({ isError: true, text: expect.stringContaining("none") });
    for (const [bearer, store] of [
      [key, "foreign"],
      [server.foreignKey, "handbook"],
      [listed, "private"],
    ] as const) {
      const refused = await use(bearer, name, args(store));
      expect(refused).toEqual({ isError: true, text: none.text.replaceAll("none", store) });
    }
  });

  test("search, fetch and list_stores show nothing of other projects or unlisted stores", async () => {
    const listed = await keyWith(undefined, ["faq", "handbook"]);
    for (const [bearer, hidden] of [
      [key, "foreign"],
      [listed, "secret"],
    ] as const) {
      const { text } = await use(bearer, "search", { query: "secret of returns" });
      expect(text).not.toContain(hidden);
    }
    expect((await use(listed, "list_stores", {})).text).not.toContain("private");
    expect((await use(key, "list_stores", {})).text).not.toContain("foreign");
    for (const [bearer, id] of [
      [key, "foreign/embeddings/f1"],
      [server.foreignKey, "private/embeddings/p1"],
      [listed, "private/embeddings/p1"],
    ] as const)
      expect(await use(bearer, "fetch", { id })).toMatchObject({ isError: true });
    const foreign = await use(server.foreignKey, "search", { query: "returns" });
    expect(foreign.results).toMatchObject([{ id: "foreign/embeddings/f1" }]);
    // What the URL names is no way around the list.
    const named = await use(listed, "search", { query: "returns" }, { query: "?stores=private,faq" });
    expect(named.text).not.toContain("secret");
  });

  test("a key that may only search its stores searches them", async () => {
    const bearer = await keyWith(["search"], ["faq"]);
    expect((await use(bearer, "search", { query: "returns" })).results).toHaveLength(2);
    const refused = await use(await keyWith(["search"]), "search", { query: "returns" });
    expect(refused).toMatchObject({ isError: true, text: expect.stringContaining("stores.read") });
  });

  test("search takes one of a key's searches at a time", async () => {
    const bearer = await keyWith(undefined, undefined, { max_concurrent_searches: 1 });
    expect((await use(bearer, "search", { query: "returns" })).results).toHaveLength(4);
  });

  test("a token sees what its readers may read", async () => {
    await ask("POST", "/v1/vector_stores", { id: "teams", restrict_readers: true });
    const rows = ["a", "b"].map((team) => ({ content: `returns of ${team}`, metadata: { readers: [team] } }));
    await ask("POST", "/v1/vector_stores/teams/embeddings/batch", { embeddings: rows });
    const token = await server.provider.issue({ claims: { groups: ["a"], pgquiver_project: "default" } });
    const { text } = await use(token, "search", { query: "returns" }, { query: "?stores=teams" });
    expect(text).toContain("returns of a");
    expect(text).not.toContain("returns of b");
    await ask("DELETE", "/v1/vector_stores/teams");
  });

  test("calls are counted, and recorded in the audit log, refused ones too", async () => {
    const bearer = await keyWith(["operator"]);
    await use(bearer, "search_store", { store_id: "faq", query: "returns" });
    const metrics = await send(`${server.url}/metrics`, "GET", undefined, { authorization: `Bearer ${key}` });
    expect(metrics.text).toMatch(
      /pgquiver_calls_total\{rpc="pgquiver.v1.SearchService\/Search",protocol="mcp",code="ok"\} \d/,
    );
    const entries = async (outcome: string) => {
      const { rows } = await server.database.pool.query<{ n: number }>(
        `select count(*)::int as n from ${server.database.tables.auditLog} where protocol = 'mcp' and outcome = $1 and rpc = 'pgquiver.v1.SearchService/Search'`,
        [outcome],
      );
      return rows[0]?.n ?? 0;
    };
    await expect.poll(() => entries("ok")).toBeGreaterThan(0);
    await expect.poll(() => entries("permission_denied")).toBeGreaterThan(0);
  });
});

describe("over raw HTTP", () => {
  test("a request has its answer as JSON, with or without a protocol version", async () => {
    for (const headers of [{}, { "mcp-protocol-version": "2025-06-18" }] as Record<string, string>[]) {
      const reply = await post(listTools, headers);
      expect(reply.status, reply.text).toBe(200);
      expect(reply.headers.get("content-type")).toMatch(/^application\/json/);
      expect(reply.headers.get("mcp-session-id")).toBeNull();
      expect(JSON.parse(reply.text)).toMatchObject({
        jsonrpc: "2.0",
        id: 1,
        result: { tools: expect.any(Array) },
      });
    }
  });

  test("a notification is accepted without a body", async () => {
    const reply = await post({ jsonrpc: "2.0", method: "notifications/initialized" });
    expect([reply.status, reply.text]).toEqual([202, ""]);
  });

  test.each<[string, number, number, unknown, Record<string, string>]>([
    ["an unknown protocol version", 400, -32_000, listTools, { "mcp-protocol-version": "1999-01-01" }],
    ["another Accept", 406, -32_000, listTools, { accept: "text/html" }],
    ["another type", 415, -32_000, "a=b", { "content-type": "application/x-www-form-urlencoded" }],
    ["a batch", 400, -32_600, [listTools, listTools], {}],
    ["no JSON", 400, -32_700, "{", {}],
    ["no JSON-RPC", 400, -32_700, { id: 1 }, {}],
    ["too much nesting", 400, -32_600, `${"[".repeat(65)}${"]".repeat(65)}`, {}],
    ["too many values", 400, -32_600, { ...listTools, params: { a: Array(10_001).fill(0) } }, {}],
    ["too many bytes", 413, -32_000, { ...listTools, params: { a: "x".repeat(1_048_576) } }, {}],
    ["no key", 401, -32_000, listTools, { authorization: "" }],
    ["a wrong key", 401, -32_000, listTools, { authorization: "Bearer wrong" }],
  ])("%s is refused in JSON-RPC's format", async (_name, status, code, body, headers) => {
    const reply = await post(body, headers);
    expect(reply.status, reply.text).toBe(status);
    expect(JSON.parse(reply.text)).toEqual({
      jsonrpc: "2.0",
      error: { code, message: expect.stringMatching(/\w/) },
      id: null,
    });
    if (status === 401)
      expect(reply.headers.get("www-authenticate")).toMatch(/^Bearer .*resource_metadata="http:/);
  });

  test.each(["GET", "DELETE"])("%s is 405, since there are no sessions", async (verb) => {
    const headers = { authorization: `Bearer ${key}`, accept: "text/event-stream" };
    const reply = await send(`${server.url}/mcp`, verb, undefined, headers);
    expect([reply.status, reply.headers.get("allow")]).toEqual([405, "POST"]);
    const { status } = await send(`${server.url}/mcp`, verb, undefined, {});
    expect(status).toBe(401);
  });

  test("without keys, a web page of another origin is refused", async () => {
    await using open = await startServer();
    const ofPage = async (origin: string) =>
      (
        await send(`${open.url}/mcp`, "POST", JSON.stringify(listTools), {
          "content-type": "application/json",
          accept: "application/json, text/event-stream",
          origin,
        })
      ).status;
    expect(await ofPage("https://evil.example")).toBe(403);
    expect(await ofPage(open.url)).toBe(200);
  });
});
