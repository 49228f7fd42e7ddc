import { createServer, request as httpRequest } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import OpenAI, { toFile } from "openai";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { runCommand } from "../../support/clients/command-line.ts";
import { startRecordedServer } from "../../support/servers/recorded-server.ts";
import { startServer } from "../../support/servers/server.ts";

const KEY = "a-key-of-16-chars";
const server = await startServer({ apiKeys: [KEY] });
afterAll(() => server[Symbol.asyncDispose]());
const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: KEY, maxRetries: 0 });

/** The servers that the recordings were made of, to be asked again: `IMPORT_CHROMA=http://127.0.0.1:8000`. */
const LIVE = { chroma: process.env["IMPORT_CHROMA"], weaviate: process.env["IMPORT_WEAVIATE"] };

/** Runs a command as a user of the server does. */
const run = (...args: string[]) =>
  runCommand(args, {
    environment: { PGQUIVER_URL: server.url, PGQUIVER_API_KEY: KEY, QDRANT_API_KEY: "secret" },
  });

async function makeStore(id: string): Promise<string> {
  expect(await run("stores", "create", id, "--id", id)).toMatchObject({ code: 0 });
  return id;
}

interface Exported {
  id: string;
  content: string;
  metadata: Record<string, unknown>;
  embedding: number[];
  created_at: number;
}

async function rowsOf(store: string): Promise<Map<string, Exported>> {
  const { stdout, code } = await run("export", store);
  expect(code).toBe(0);
  const rows = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Exported & { embedding: string });
  return new Map(
    rows.map((row) => {
      const bytes = Uint8Array.from(Buffer.from(row.embedding, "base64"));
      return [row.id, { ...row, embedding: [...new Float32Array(bytes.buffer)] }];
    }),
  );
}

async function play(name: string, live?: string): Promise<string> {
  const source = await startRecordedServer(name, live);
  onTestFinished(() => source[Symbol.asyncDispose]());
  return source.url;
}

test("a collection of Chroma is copied, page after page, and once more without doubling a row", async () => {
  const rows = Array.from({ length: 250 }, (_, row) => row);
  if (LIVE.chroma !== undefined) {
    const root = `${LIVE.chroma}/api/v2/tenants/default_tenant/databases/default_database/collections`;
    const post = async (url: string, body: object) => {
      const headers = { "content-type": "application/json" };
      const reply = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
      return (await reply.json()) as { id: string };
    };
    await fetch(`${root}/goods`, { method: "DELETE" });
    const { id } = await post(root, { name: "goods" });
    await post(`${root}/${id}/add`, {
      ids: rows.map((row) => (row === 0 ? "doc#0" : `row-${row}`)),
      documents: rows.map((row) => `text ${row}`),
      embeddings: rows.map((row) => [1, row / 4, -1]),
      metadatas: rows.map((row) => ({ page: row, lang: "en" })),
    });
  }
  const url = await play("chroma", LIVE.chroma);
  const store = await makeStore("chroma");
  const args = ["import", "chroma", store, "--from", url, "--collection", "goods"];
  const first = await run(...args);
  expect(first).toMatchObject({ code: 0, stdout: "250 rows written, 0 skipped, 0 refused\n" });
  expect(first.stderr).toContain("250 of 250 rows");
  expect(await run(...args)).toMatchObject({ code: 0, stdout: "250 rows written, 0 skipped, 0 refused\n" });
  const copied = await rowsOf(store);
  expect(copied.size).toBe(250);
  expect(copied.get("row-249")).toMatchObject({
    content: "text 249",
    embedding: [1, 62.25, -1],
    metadata: { page: 249, lang: "en" },
  });
  // An id that is not allowed here.
  const [renamed] = [...copied.values()].filter(({ id }) => id.startsWith("hash-"));
  expect(renamed).toMatchObject({ content: "text 0", metadata: { source_id: "doc#0" } });
});

test("a collection of Weaviate is copied, page after page", async () => {
  const idOf = (row: number) => `00000000-0000-4000-8000-${String(row).padStart(12, "0")}`;
  if (LIVE.weaviate !== undefined) {
    const send = (method: string, path: string, body?: object) =>
      fetch(`${LIVE.weaviate}/v1/${path}`, {
        method,
        headers: { "content-type": "application/json" },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
    await send("DELETE", "schema/Goods");
    await send("POST", "schema", { class: "Goods", vectorizer: "none" });
    const objects = Array.from({ length: 250 }, (_, row) => ({
      class: "Goods",
      id: idOf(row),
      properties: { text: `text ${row}`, page: row },
      vector: [1, row / 4, -1],
    }));
    expect((await send("POST", "batch/objects", { objects })).status).toBe(200);
  }
  const url = await play("weaviate", LIVE.weaviate);
  const store = await makeStore("weaviate");
  const outcome = await run("import", "weaviate", store, "--from", url, "--collection", "Goods");
  expect(outcome).toMatchObject({ code: 0, stdout: "250 rows written, 0 skipped, 0 refused\n" });
  const copied = await rowsOf(store);
  expect(copied.get(idOf(249))).toMatchObject({
    content: "text 249",
    embedding: [1, 62.25, -1],
    metadata: { page: 249 },
  });
  expect(copied.get(idOf(0))?.created_at).toBeGreaterThan(1_700_000_000);
});

test("points of Qdrant, of LangChain's shape, are copied with one of their vectors", async () => {
  const store = await makeStore("qdrant");
  const args = [
    "import",
    "qdrant",
    store,
    "--from",
    await play("qdrant"),
    "--collection",
    "goods",
    "--vector",
    "text",
  ];
  expect(await run(...args)).toMatchObject({ code: 0, stdout: "3 rows written, 0 skipped, 0 refused\n" });
  const copied = await rowsOf(store);
  expect(copied.get("1")).toMatchObject({ content: "one", embedding: [1, 0], metadata: { source: "a.pdf" } });
  expect([...copied.keys()].toSorted()).toEqual(["1", "2", "5c56c793-69f3-4fbf-87e6-c4bf54c28c26"]);
});

test("a namespace of Pinecone is copied, with the field of the text named", async () => {
  const store = await makeStore("pinecone");
  const args = [
    "import",
    "pinecone",
    store,
    "--from",
    await play("pinecone"),
    "--namespace",
    "ns",
    "--content",
    "body",
  ];
  expect(await run(...args)).toMatchObject({ code: 0, stdout: "3 rows written, 0 skipped, 0 refused\n" });
  const copied = await rowsOf(store);
  expect(copied.get("c")).toMatchObject({ content: "three", embedding: [0, 2], metadata: { lang: "en" } });
  expect([...copied.values()].map(({ metadata }) => metadata["source_id"])).toContain("doc1#chunk1");
});

test("what a source refuses is said, and nothing is written", async () => {
  const store = await makeStore("refused");
  const { code, stderr } = await run(
    "import",
    "qdrant",
    store,
    "--from",
    await play("none"),
    "--collection",
    "x",
  );
  expect(code).toBe(1);
  expect(stderr).toMatch(/collections\/x\/points\/count answered 400: /);
  expect(stderr).not.toContain("secret");
  const noText = await run(
    "import",
    "pinecone",
    store,
    "--from",
    await play("pinecone"),
    "--namespace",
    "ns",
  );
  expect(noText).toMatchObject({ code: 1 });
  expect(noText.stderr).toContain("row 1 has no text");
  expect(await run("export", store)).toMatchObject({ stdout: "" });
});

const { TEST_DATABASE_URL } = process.env;
test.runIf(TEST_DATABASE_URL !== undefined)(
  "rows of a query are copied from another Postgres, through a cursor",
  async () => {
    const store = await makeStore("postgres");
    const query = `select n as id, 'text ' || n as document, '[' || n || ',1]' as embedding,
    jsonb_build_object('lang', 'en') as metadata, n % 7 as weekday from generate_series(1, 1234) as n;`;
    const args = ["import", "postgres", store, "--from", String(TEST_DATABASE_URL), "--query", query];
    expect(await run(...args)).toMatchObject({
      code: 0,
      stdout: "1234 rows written, 0 skipped, 0 refused\n",
    });
    const copied = await rowsOf(store);
    expect(copied.size).toBe(1234);
    expect(copied.get("1234")).toMatchObject({
      content: "text 1234",
      embedding: [1234, 1],
      metadata: { lang: "en", weekday: 2 },
    });
    const broken = await run(...args.slice(0, -1), "delete from pg_class");
    expect(broken.code).toBe(1);
  },
);

test("files of a store of OpenAI's API are attached again, those it withholds by their text, each once", async () => {
  const from = await client.vectorStores.create({ name: "from" });
  const upload = async (name: string, text: string) =>
    client.files.create({ file: await toFile(Buffer.from(text), name), purpose: "assistants" });
  const [plain, withheld] = [
    await upload("a.md", "Returns are free."),
    await upload("b.html", "<p>Shipping</p>"),
  ];
  const chunking = {
    type: "static",
    static: { max_chunk_size_tokens: 200, chunk_overlap_tokens: 20 },
  } as const;
  await client.vectorStores.files.createAndPoll(from.id, {
    file_id: plain.id,
    attributes: { lang: "en", page: 3 },
    chunking_strategy: chunking,
  });
  await client.vectorStores.files.createAndPoll(from.id, { file_id: withheld.id });
  const url = await startWithholding(withheld.id);
  const store = await makeStore("openai");
  const args = [
    "--json",
    "import",
    "openai",
    store,
    "--from",
    `${url}/v1`,
    "--source-key",
    KEY,
    "--vector-store",
    from.id,
  ];
  const first = await run(...args);
  expect({ ...first, stdout: JSON.parse(first.stdout) as unknown }).toMatchObject({
    code: 0,
    stdout: { read: 2, present: 0, completed: 2, failed: 0 },
  });
  const again = await run(...args);
  expect(JSON.parse(again.stdout)).toEqual({ read: 0, present: 2, completed: 0, failed: 0 });
  const { data } = await client.vectorStores.files.list(store);
  expect(data).toHaveLength(2);
  const copy = data.find(({ attributes }) => attributes?.["source_file_id"] === plain.id);
  expect(copy).toMatchObject({
    status: "completed",
    attributes: { lang: "en", page: 3 },
    chunking_strategy: chunking,
  });
  const found = await client.vectorStores.search(store, { query: "Shipping" });
  expect(found.data.find(({ filename }) => filename === "b.html.txt")?.content[0]?.text).toContain(
    "Shipping",
  );
});

/** What is before the service, and answers as OpenAI does where the bytes of a file for assistants are asked for. */
async function startWithholding(id: string): Promise<string> {
  const door = createServer((incoming, outgoing) => {
    if (incoming.url === `/v1/files/${id}/content`) {
      const error = {
        message: "Not allowed to download files of purpose: assistants",
        type: "invalid_request_error",
      };
      outgoing.writeHead(400, { "content-type": "application/json" }).end(JSON.stringify({ error }));
      return;
    }
    const sent = httpRequest(server.url + incoming.url, {
      method: incoming.method,
      headers: incoming.headers,
    });
    sent.once("response", (reply) => reply.pipe(outgoing.writeHead(reply.statusCode ?? 500, reply.headers)));
    incoming.pipe(sent);
  }).listen(0, "127.0.0.1");
  await once(door, "listening");
  onTestFinished(() => door.closeAllConnections());
  onTestFinished(() => void door.close());
  return `http://127.0.0.1:${(door.address() as AddressInfo).port}`;
}
