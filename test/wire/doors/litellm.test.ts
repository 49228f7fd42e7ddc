import { afterAll, describe, expect, test } from "vitest";
import { HANDBOOK, startDoorServer } from "../../support/servers/door-server.ts";
import { filePart, form, FORM_TYPE, textPart } from "../../support/clients/form.ts";
import { send } from "../../support/clients/http.ts";

const server = await startDoorServer();
const { ask, key, keyWith, fileId } = server;
afterAll(() => server[Symbol.asyncDispose]());

/** Requests as LiteLLM's documentation and its `parse_rag_ingest_request` have them (BerriAI/litellm, commit 017c099). */
const encoded = (text: string) => ({
  filename: "document.txt",
  content: Buffer.from(text).toString("base64"),
  content_type: "text/plain",
});
const toStore = (vector_store_id?: string) => ({
  name: "my-pipeline",
  embedding: { model: "text-embedding-3-small" },
  chunking_strategy: { chunk_size: 1000, chunk_overlap: 200 },
  vector_store: { custom_llm_provider: "openai", ...(vector_store_id && { vector_store_id }) },
});
const ingest = (body: unknown, bearer = key, path = "/v1/rag/ingest") => ask("POST", path, body, bearer);
const files = async () => (await ask("GET", "/v1/files")).json.data.length as number;

describe("/rag/ingest", () => {
  test.each(["/rag/ingest", "/v1/rag/ingest"])("%s makes a store of a file in base64", async (path) => {
    const options = { ...toStore(), vector_store: { custom_llm_provider: "openai", ttl_days: 7 } };
    const { status, json } = await ingest(
      { file: encoded("A text on lighthouses."), ingest_options: options },
      key,
      path,
    );
    expect(status, JSON.stringify(json)).toBe(200);
    expect(json).toEqual({
      id: expect.stringMatching(/^ingest_/),
      status: "completed",
      vector_store_id: expect.stringMatching(/^vs_/),
      file_id: expect.stringMatching(/^file-/),
    });
    const store = await ask("GET", `/v1/vector_stores/${json.vector_store_id}`);
    expect(store.json).toMatchObject({ name: "my-pipeline", expires_after: { days: 7 } });
    const found = await ask("POST", `/v1/vector_stores/${json.vector_store_id}/search`, {
      query: "lighthouses",
    });
    expect(found.json.data).toMatchObject([
      { filename: "document.txt", content: [{ text: "A text on lighthouses." }] },
    ]);
  });

  test.each([
    ["request", (options: object) => JSON.stringify({ ingest_options: options })],
    ["ingest_options", (options: object) => JSON.stringify(options)],
  ])("takes a form with the options in '%s', before the file or after it", async (name, text) => {
    await ask("POST", "/v1/vector_stores", { id: `form-${name}` });
    const options = textPart(name, text(toStore(`form-${name}`)));
    for (const parts of [
      [options, filePart("First.", 'filename="a.txt"')],
      [filePart("Second.", 'filename="b.txt"'), options],
    ]) {
      const headers = { authorization: `Bearer ${key}`, ...FORM_TYPE };
      const reply = await send(`${server.url}/rag/ingest`, "POST", form(...parts), headers);
      expect(reply.status, reply.text).toBe(200);
      expect(JSON.parse(reply.text)).toMatchObject({ status: "completed", vector_store_id: `form-${name}` });
    }
    const found = await ask("POST", `/v1/vector_stores/form-${name}/search`, { query: "first" });
    expect(found.json.data.map(({ filename }: { filename: string }) => filename).toSorted()).toEqual([
      "a.txt",
      "b.txt",
    ]);
  });

  test("attaches a file that was uploaded before", async () => {
    const { json } = await ingest({ file_id: fileId, ingest_options: toStore("faq") });
    expect(json).toMatchObject({ status: "completed", vector_store_id: "faq", file_id: fileId });
    await ask("DELETE", `/v1/vector_stores/faq/files/${fileId}`);
  });

  test("a key that may not read files is not kept waiting", async () => {
    const writer = await keyWith(["files.write"]);
    const { json } = await ingest({ file_id: fileId, ingest_options: toStore("faq") }, writer);
    expect(json.status).toMatch(/^(in_progress|completed)$/);
    await ask("DELETE", `/v1/vector_stores/faq/files/${fileId}`);
  });

  test.each<[string, object]>([
    ["ingest_options.vector_store", { file: encoded("a"), ingest_options: {} }],
    ["file", { ingest_options: toStore() }],
    ["fetches no URLs", { file_url: "http://127.0.0.1/secret", ingest_options: toStore() }],
    [
      "reads no images",
      { file: encoded("a"), ingest_options: { ...toStore(), ocr: { model: "mistral/mistral-ocr-latest" } } },
    ],
    ["base64", { file: { filename: "a.txt", content: "%%%" }, ingest_options: toStore() }],
    ["file.filename", { file: { content: "YQ==" }, ingest_options: toStore() }],
    [
      "chunk_size",
      { file: encoded("a"), ingest_options: { ...toStore(), chunking_strategy: { chunk_size: 0 } } },
    ],
    ["file-none", { file_id: "file-none", ingest_options: toStore() }],
    ["none", { file: encoded("a"), ingest_options: toStore("none") }],
    ["foreign", { file: encoded("a"), ingest_options: toStore("foreign") }],
  ])("what it cannot do is refused, and leaves no file and no store: %s", async (named, body) => {
    const stores = async () => (await ask("GET", "/v1/vector_stores?limit=100")).json.data.length as number;
    const before = [await files(), await stores()];
    const { status, json } = await ingest(body);
    expect(status, JSON.stringify(json)).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(500);
    expect(json.detail.error).toContain(named);
    expect(json.error.message).toBe(json.detail.error);
    expect([await files(), await stores()]).toEqual(before);
  });

  test("a form that is no form, or has unknown parts, is refused", async () => {
    const headers = { authorization: `Bearer ${key}`, ...FORM_TYPE };
    const reply = await send(
      `${server.url}/rag/ingest`,
      "POST",
      form(textPart("a", "b"), filePart("x")),
      headers,
    );
    expect([reply.status, JSON.parse(reply.text).detail.error]).toEqual([
      400,
      expect.stringContaining("'a'"),
    ]);
    const broken = await send(`${server.url}/rag/ingest`, "POST", "nothing", headers);
    expect(broken.status).toBe(400);
  });

  test("needs the scopes of what it does, and the store on the key's list", async () => {
    const body = { file: encoded("a"), ingest_options: toStore("faq") };
    expect((await ingest(body, await keyWith(["search", "files.read"]))).status).toBe(403);
    expect(
      (await ingest({ ...body, ingest_options: toStore() }, await keyWith(["files.write"]))).status,
    ).toBe(403);
    expect((await ingest(body, "wrong")).status).toBe(401);
    const listed = await keyWith(undefined, ["handbook"]);
    expect((await ingest(body, listed)).status).toBe(404);
  });
});

const question = (vectorStoreId: string, more: object = {}) => ({
  model: "gpt-4o-mini",
  messages: [{ role: "user", content: "What about returns?" }],
  retrieval_config: { vector_store_id: vectorStoreId, custom_llm_provider: "openai", top_k: 5 },
  ...more,
});
const query = (body: unknown, bearer = key, path = "/v1/rag/query") => ask("POST", path, body, bearer);

describe("/rag/query", () => {
  test.each(["/rag/query", "/v1/rag/query"])("%s gives the context as a chat completion", async (path) => {
    const { status, json } = await query(question("handbook"), key, path);
    expect(status, JSON.stringify(json)).toBe(200);
    expect(json).toMatchObject({
      id: expect.stringMatching(/^chatcmpl-/),
      object: "chat.completion",
      model: "gpt-4o-mini",
      choices: [
        {
          index: 0,
          finish_reason: "stop",
          message: {
            role: "assistant",
            content: `Context:\n\n${HANDBOOK}\n\n`,
            provider_specific_fields: {
              search_results: { object: "vector_store.search_results.page", data: [{ file_id: fileId }] },
            },
          },
        },
      ],
      usage: { completion_tokens: 0 },
    });
  });

  test("searches for the text among the parts of the last message", async () => {
    const content = [
      { type: "image_url", image_url: { url: "a" } },
      { type: "text", text: "Wie gehen Rückgaben?" },
    ];
    const messages = [
      { role: "system", content: "Be brief." },
      { role: "user", content },
    ];
    const { json } = await query(question("faq", { messages }));
    const page = json.choices[0].message.provider_specific_fields.search_results;
    expect(page.search_query).toEqual(["Wie gehen Rückgaben?"]);
    expect(page.data[0].id).toBe("e2");
  });

  test("reranks on request: top_n of top_k results", async () => {
    const rerank = { enabled: true, top_n: 1 };
    const { json } = await query(question("faq", { rerank }));
    expect(json.choices[0].message.provider_specific_fields.search_results.data).toHaveLength(1);
    const unknown = await query(
      question("faq", { rerank: { ...rerank, model: "cohere/rerank-english-v3.0" } }),
    );
    expect(unknown.status).toBe(400);
    expect(unknown.json.detail.error).toContain("cohere/rerank-english-v3.0");
  });

  test.each<[string, object]>([
    ["model", { model: "" }],
    ["messages", { messages: [] }],
    ["messages", { messages: [{ role: "user", content: [{ type: "image_url" }] }] }],
    ["retrieval_config.vector_store_id", { retrieval_config: {} }],
    ["stream", { stream: true }],
    ["top_k", { retrieval_config: { vector_store_id: "faq", top_k: 0 } }],
  ])("names what is wrong: %s", async (named, more) => {
    const { status, json } = await query(question("faq", more));
    expect([status, json.detail.error]).toEqual([400, expect.stringContaining(named)]);
  });

  test("needs the scope, and a store that the caller may see", async () => {
    expect((await query(question("faq"), await keyWith(["files.read"]))).status).toBe(403);
    expect((await query(question("foreign"))).status).toBe(404);
    expect((await query(question("faq"), await keyWith(undefined, ["handbook"]))).status).toBe(404);
    expect((await query(question("faq"), "wrong")).status).toBe(401);
  });
});
