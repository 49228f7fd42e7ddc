import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Reply } from "../../support/clients/client.ts";
import { makePdf } from "../../support/stores/documents.ts";
import { startDoorServer } from "../../support/servers/door-server.ts";
import { filePart, form, FORM_TYPE, textPart } from "../../support/clients/form.ts";
import { send } from "../../support/clients/http.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startDoorServer();
const { ask, key, keyWith } = server;
afterAll(() => server[Symbol.asyncDispose]());

/** Ids as LibreChat makes them. */
const FILE = "7f8a2d3e-0c1b-4a5d-9e6f-112233445566";
const OTHER = "0a1b2c3d-4e5f-4061-8283-a4b5c6d7e8f9";

/** A form as LibreChat's `uploadVectors` and `parseText` send it (danny-avila/LibreChat; rag_api v0.9.0, commit 4985b37). */
const upload = async (
  path: string,
  fileId: string,
  text: string | Uint8Array,
  { store = "handbook", bearer = key, name = "notes.txt", entityId = "agent_1" } = {},
) => {
  const parts = [
    textPart("file_id", fileId),
    filePart(text, `filename="${name}"`),
    ...(entityId === "" ? [] : [textPart("entity_id", entityId)]),
    textPart("storage_metadata", '{"bucket":"a"}'),
  ];
  const headers = { authorization: `Bearer ${bearer}`, accept: "application/json", ...FORM_TYPE };
  const reply = await send(`${server.url}/rag_api/${store}${path}`, "POST", form(...parts), headers);
  return { status: reply.status, json: JSON.parse(reply.text) };
};
const rag = (verb: string, path: string, body?: unknown, bearer = key, store = "handbook") =>
  ask(verb, `/rag_api/${store}${path}`, body, bearer);
const files = async () => (await ask("GET", "/v1/files")).json.data.length as number;
const query = (fileId: string, entityId: string | null = "agent_1") =>
  rag("POST", "/query", { file_id: fileId, query: "lighthouse", k: 5, entity_id: entityId });
/** FastAPI's body of a request that it refuses. */
const invalid = (loc: unknown, type: unknown = expect.stringMatching(/^[a-z_]+$/)) => ({
  detail: [{ type, loc, msg: expect.stringMatching(/\w/) }],
  message: "Request validation failed",
});

beforeAll(async () => {
  const { status, json } = await upload("/embed", FILE, "The lighthouse is white.");
  expect([status, json]).toEqual([
    200,
    {
      status: true,
      message: "File processed successfully.",
      file_id: FILE,
      filename: "notes.txt",
      known_type: true,
    },
  ]);
  await upload("/embed", OTHER, "The second lighthouse is red.", { name: "other.txt" });
});

describe("what was embedded", () => {
  test("is found at once, by one file's id, with cosine distances", async () => {
    const { status, json } = await rag("POST", "/query", {
      file_id: FILE,
      query: "lighthouse",
      k: 5,
      entity_id: "agent_1",
    });
    expect(status).toBe(200);
    expect(json).toEqual([
      [
        {
          id: null,
          metadata: { file_id: FILE, user_id: "agent_1", source: "notes.txt" },
          page_content: "The lighthouse is white.",
          type: "Document",
        },
        expect.any(Number),
      ],
    ]);
    const [[, distance]] = json;
    const found = await ask("POST", "/v1/vector_stores/handbook/search", {
      query: "lighthouse",
      max_num_results: 50,
    });
    const result = found.json.data.find((one: Reply) => one.filename === "notes.txt");
    expect(1 - distance / 2).toBeCloseTo(result.score, 6);
  });

  test("is found by the agent for which it was uploaded, and by all when for none", async () => {
    expect((await query(FILE)).json).toHaveLength(1);
    for (const other of ["agent_2", "", null]) expect((await query(FILE, other)).json).toEqual([]);
    await upload("/embed", "for-all", "A lighthouse for all.", { entityId: "" });
    for (const any of ["agent_2", "", null]) {
      const { json } = await query("for-all", any);
      expect(json).toMatchObject([[{ metadata: { user_id: "public" } }, expect.any(Number)]]);
    }
    await rag("DELETE", "/documents", ["for-all"]);
  });

  test("is found where another route has attached it, without an owner", async () => {
    const path = `/v1/vector_stores/handbook/files/${server.fileId}`;
    await ask("POST", path, { attributes: { file_id: "attached" } });
    expect((await query("attached", null)).json).toHaveLength(1);
    await ask("POST", path, { attributes: {} });
  });

  test("is found by several files' ids, best first", async () => {
    const body = { query: "red lighthouse", file_ids: [FILE, OTHER], k: 4 };
    const { json } = await rag("POST", "/query_multiple", body);
    expect(json.map(([one]: [Reply]) => one.metadata.source)).toEqual(["other.txt", "notes.txt"]);
    expect(json[0][1]).toBeLessThan(json[1][1]);
    const none = await rag("POST", "/query_multiple", { ...body, file_ids: ["none"] });
    expect([none.status, none.json]).toEqual([404, { detail: "No documents found for the given query" }]);
  });

  test("is listed, and read as documents and as context", async () => {
    expect((await rag("GET", "/ids")).json.toSorted()).toEqual([FILE, OTHER].toSorted());
    const both = await rag("GET", `/documents?ids=${FILE}&ids=${OTHER}`);
    expect(both.json.map((one: Reply) => one.page_content).toSorted()).toEqual([
      "The lighthouse is white.",
      "The second lighthouse is red.",
    ]);
    expect(both.json[0].metadata).toMatchObject({ user_id: "agent_1" });
    expect((await rag("GET", `/documents/${FILE}/context`)).json).toBe("notes.txt\nThe lighthouse is white.");
    for (const [path, detail] of [
      ["/documents?ids=none", "One or more IDs not found"],
      [`/documents?ids=${FILE}&ids=none`, "One or more IDs not found"],
      ["/documents/none/context", "The specified file_id was not found"],
    ])
      expect(await rag("GET", String(path))).toMatchObject({ status: 404, json: { detail } });
  });

  test("is deleted with every file of its id", async () => {
    const before = await files();
    const id = "to-delete";
    await upload("/embed", id, "A lighthouse to delete.");
    await upload("/embed", id, "A lighthouse to delete, again.");
    const { status, json } = await rag("DELETE", "/documents", [id]);
    expect([status, json]).toEqual([200, { message: "Documents for 1 file deleted successfully" }]);
    expect((await query(id)).json).toEqual([]);
    expect(await files()).toBe(before);
    expect((await rag("DELETE", "/documents", [id])).status).toBe(404);
    // What is there is deleted beside an id that has nothing, which is then told.
    await upload("/embed", id, "A lighthouse to delete.");
    expect(await rag("DELETE", "/documents", ["none", id])).toMatchObject({
      status: 404,
      json: { detail: "One or more IDs not found" },
    });
    expect(await files()).toBe(before);
  });

  test("has the page of a file with pages, as LibreChat shows it", async () => {
    const id = "with-pages";
    const pdf = await makePdf(["The harbour has two piers.", "The lighthouse keeper is old."]);
    expect((await upload("/embed", id, pdf, { name: "harbour.pdf" })).status).toBe(200);
    const pages = (await query(id)).json.map(([one]: [Reply]) => [
      one.metadata.page,
      one.page_content.trim(),
    ]);
    const documents = (await rag("GET", `/documents?ids=${id}`)).json;
    expect(documents.map((one: Reply) => [one.metadata.page, one.page_content.trim()])).toEqual(
      pages.toSorted(),
    );
    expect(documents[0].metadata.page).toBe(1);
    expect((await rag("GET", `/documents/${id}/context`)).json).toContain(
      "harbour.pdf\n\n# PAGE 1\n\nThe harbour",
    );
    await rag("DELETE", "/documents", [id]);
  });
});

describe("uploads that fail", () => {
  test("a type that cannot be read is known_type false, and not kept", async () => {
    const before = await files();
    const png = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ", "base64");
    const { status, json } = await upload("/embed", "image", png, { name: "a.png" });
    expect([status, json]).toMatchObject([200, { known_type: false, file_id: "image" }]);
    expect(await files()).toBe(before);
  });

  test("a damaged file, an unknown store and a missing id are refused, and nothing is kept", async () => {
    const before = await files();
    const damaged = await upload("/embed", "damaged", "%PDF-1.7 damaged", { name: "a.pdf" });
    expect([damaged.status, damaged.json]).toEqual([
      400,
      { detail: expect.stringContaining("Error during file processing") },
    ]);
    expect((await upload("/embed", "a", "text", { store: "none" })).status).toBe(404);
    expect((await upload("/embed", "a", "text", { store: "foreign" })).status).toBe(404);
    const missing = await upload("/embed", "", "text");
    expect([missing.status, missing.json]).toEqual([422, invalid(["body", "file_id"], "missing")]);
    const headers = { authorization: `Bearer ${key}`, ...FORM_TYPE };
    const nothing = await send(
      `${server.url}/rag_api/handbook/embed`,
      "POST",
      form(textPart("file_id", "a")),
      headers,
    );
    expect([nothing.status, JSON.parse(nothing.text)]).toEqual([422, invalid(["body", "file"], "missing")]);
    expect(await files()).toBe(before);
  });
});

test("text returns a text in UTF-8 and stores nothing", async () => {
  const before = await files();
  expect(await upload("/text", FILE, "Grüße")).toEqual({
    status: 200,
    json: { text: "Grüße", file_id: FILE, filename: "notes.txt", known_type: true },
  });
  expect((await upload("/text", FILE, Buffer.from([0xff, 0x00]))).status).toBe(400);
  expect((await upload("/text", FILE, "a".repeat(4 * 1024 * 1024 + 1))).status).toBe(413);
  expect((await upload("/text", FILE, "a", { bearer: "wrong" })).status).toBe(401);
  expect(await files()).toBe(before);
});

test("without keys, as on loopback, LibreChat's own tokens are ignored", async () => {
  await using open = await startServer();
  const reply = await send(`${open.url}/rag_api/any/health`, "GET", undefined, {
    authorization: "Bearer eyJ.a.b",
  });
  expect([reply.status, JSON.parse(reply.text)]).toEqual([200, { status: "UP" }]);
});

describe("access control", () => {
  test.each<[string, string, unknown, string]>([
    ["POST", "/query", { file_id: FILE, query: "a" }, "search"],
    ["POST", "/query_multiple", { file_ids: [FILE], query: "a" }, "search"],
    ["GET", "/ids", undefined, "files.read"],
    ["GET", `/documents?ids=${FILE}`, undefined, "files.read"],
    ["GET", `/documents/${FILE}/context`, undefined, "files.read"],
    ["DELETE", "/documents", [FILE], "files.write"],
  ])(
    "%s %s needs the scopes of its RPCs, and a store that the caller may see",
    async (verb, path, body, scope) => {
      const others = ["search", "files.read", "files.write"].filter((one) => one !== scope);
      const without = await rag(verb, path, body, await keyWith(others));
      expect([without.status, without.json]).toEqual([403, { detail: expect.stringContaining(scope) }]);
      expect((await rag(verb, path, body, await keyWith(undefined, ["faq"]))).status).toBe(404);
      expect((await rag(verb, path, body, server.foreignKey)).status).toBe(404);
      expect((await rag(verb, path, body, "wrong")).status).toBe(401);
      expect((await query(FILE)).json).toHaveLength(1);
    },
  );

  test("embed needs the scopes of its RPCs, and keeps nothing where one is missing", async () => {
    const before = await files();
    for (const scopes of [["files.write"], ["files.read", "search"]]) {
      const { status } = await upload("/embed", "a", "text", { bearer: await keyWith(scopes) });
      expect(status).toBe(403);
    }
    const listed = await keyWith(undefined, ["faq"]);
    expect((await upload("/embed", "a", "text", { bearer: listed })).status).toBe(404);
    expect(await files()).toBe(before);
  });

  test.each<[string, string, unknown, loc: string[], type: string]>([
    ["POST", "/query", { file_id: FILE }, ["body", "query"], "missing"],
    ["POST", "/query", { query: "a" }, ["body", "file_id"], "missing"],
    ["POST", "/query", { file_id: FILE, query: 1 }, ["body", "query"], "string_type"],
    ["POST", "/query", { file_id: FILE, query: "a", k: 0 }, ["body", "k"], "value_error"],
    ["POST", "/query", { file_id: FILE, query: "a", k: "4" }, ["body", "k"], "int_type"],
    ["POST", "/query", { file_id: FILE, query: "a", entity_id: 1 }, ["body", "entity_id"], "string_type"],
    ["POST", "/query", [FILE], ["body"], "model_attributes_type"],
    ["POST", "/query_multiple", { file_ids: FILE, query: "a" }, ["body", "file_ids"], "list_type"],
    ["POST", "/query_multiple", { query: "a" }, ["body", "file_ids"], "missing"],
    ["GET", "/documents", undefined, ["query", "ids"], "missing"],
    [
      "GET",
      `/documents?${Array.from({ length: 101 }, (_, index) => `ids=${index}`).join("&")}`,
      undefined,
      ["query", "ids"],
      "too_long",
    ],
    ["DELETE", "/documents", [], ["body"], "model_attributes_type"],
    ["DELETE", "/documents", [1], ["body"], "model_attributes_type"],
  ])("%s %s with %j is 422, in FastAPI's format", async (verb, path, body, loc, type) => {
    const { status, json } = await rag(verb, path, body);
    expect([status, json]).toEqual([422, invalid(loc, type)]);
  });

  test("a body that is no JSON is 422", async () => {
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    const reply = await send(`${server.url}/rag_api/handbook/query`, "POST", "{", headers);
    expect([reply.status, JSON.parse(reply.text)]).toEqual([422, invalid(["body"], "json_invalid")]);
  });
});

test("health answers without a key, and says nothing of stores", async () => {
  for (const store of ["handbook", "none"]) {
    const reply = await send(`${server.url}/rag_api/${store}/health`, "GET");
    expect([reply.status, JSON.parse(reply.text)]).toEqual([200, { status: "UP" }]);
  }
});
