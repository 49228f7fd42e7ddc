import { afterAll, describe, expect, test } from "vitest";
import type { Reply } from "../../support/clients/client.ts";
import { HANDBOOK, startDoorServer } from "../../support/servers/door-server.ts";
import { send } from "../../support/clients/http.ts";

const server = await startDoorServer();
const { ask, key, keyWith, fileId } = server;
afterAll(() => server[Symbol.asyncDispose]());

/**
 * A request as Dify's `ExternalDatasetService.fetch_external_knowledge_retrieval` makes it (langgenius/dify, commit 68d5f22;
 * contract: langgenius/dify-docs, commit 9d8344e).
 */
const request = (knowledgeId: string, condition: object | null = null) => ({
  retrieval_setting: { top_k: 3, score_threshold: 0.0 },
  query: "returns",
  knowledge_id: knowledgeId,
  metadata_condition: condition,
});
const retrieve = (body: unknown, bearer = key) => ask("POST", "/retrieval", body, bearer);

test("finds the chunks of files, and rows, in Dify's shape", async () => {
  const { status, json } = await retrieve(request("handbook"));
  expect(status).toBe(200);
  expect(json).toEqual({
    records: [
      {
        content: HANDBOOK,
        score: expect.any(Number),
        title: "handbook.txt",
        metadata: { file_id: fileId, chunk_id: expect.any(String) },
      },
    ],
  });
  const rows = await retrieve(request("faq"));
  expect(rows.json.records).toHaveLength(2);
  for (const { metadata } of rows.json.records) expect(metadata.lang).toMatch(/^(en|de)$/);
});

test("top_k and score_threshold bound the records; none are an empty list", async () => {
  const ofTop = async (setting: object) =>
    (await retrieve({ ...request("faq"), retrieval_setting: setting })).json.records.length;
  expect(await ofTop({ top_k: 1, score_threshold: 0 })).toBe(1);
  expect(await ofTop({ top_k: 1000, score_threshold: null })).toBe(2);
  expect(await ofTop({ top_k: null, score_threshold: 0 })).toBe(2);
  expect(await ofTop({ top_k: 3, score_threshold: 1 })).toBe(0);
});

const condition = (name: string, operator: string, value: unknown) => ({
  name,
  comparison_operator: operator,
  value,
});

describe("metadata conditions", () => {
  test.each<[string, string, unknown, string[]]>([
    ["lang", "contains", "n", ["e1"]],
    ["tags", "contains", "owl", ["e2"]],
    ["tags", "contains", "ow", []],
    ["lang", "contains", "%", []],
    ["lang", "not contains", "n", ["e2"]],
    ["url", "not contains", "example", ["e1"]],
    ["tags", "not contains", "owl", ["e1"]],
    ["url", "start with", "https:", ["e2"]],
    ["url", "start with", "http_", []],
    ["url", "end with", "/de", ["e2"]],
    ["filename", "end with", ".md", ["e1"]],
    ["lang", "end with", "", ["e1", "e2"]],
    ["url", "empty", null, ["e1"]],
    ["note", "empty", null, ["e1", "e2"]],
    ["url", "not empty", null, ["e2"]],
    ["note", "not empty", undefined, []],
    ["lang", "is", "en", ["e1"]],
    ["year", "is", "2024", ["e1"]],
    ["year", "is", 2024, ["e1"]],
    ["year", "is not", "2024", ["e2"]],
    ["year", "in", ["2023", "2024"], ["e1"]],
    ["year", "not in", "2023, 2024", ["e2"]],
    ["lang", "in", "", []],
    ["lang", "not in", [], ["e1", "e2"]],
    ["lang", "is not", "en", ["e2"]],
    ["lang", "in", ["en", "fr"], ["e1"]],
    ["lang", "in", "en, de", ["e1", "e2"]],
    ["lang", "not in", ["en"], ["e2"]],
    ["year", "=", "2024", ["e1"]],
    ["year", "≠", 2024, ["e2"]],
    ["year", ">", 2023, ["e1"]],
    ["year", "<", "2024", []],
    ["year", "≥", 2024, ["e1"]],
    ["year", "≤", 2023, []],
    ["year", "before", 2025, ["e1"]],
    ["year", "after", 2025, []],
    ["day", "before", "2024-05-02", ["e2"]],
    ["day", "before", "2024-05-01T01:00:00+02:00", []],
    ["day", "after", "2024-04-30T23:59:59Z", ["e2"]],
    ["lang", "after", "dz", ["e1"]],
  ])("%s %s %j", async (name, operator, value, found) => {
    const conditions = [condition(name, operator, value)];
    const { json } = await retrieve(request("faq", { logical_operator: "and", conditions }));
    expect(json.records.map((one: Reply) => one.metadata.chunk_id).toSorted()).toEqual(found);
  });

  test("are joined by and, or by or", async () => {
    const conditions = [condition("lang", "is", "en"), condition("lang", "is", "de")];
    const joined = async (logical_operator: string) =>
      (await retrieve(request("faq", { logical_operator, conditions }))).json.records.length;
    expect(await joined("and")).toBe(0);
    expect(await joined("or")).toBe(2);
    expect(
      (await retrieve(request("faq", { logical_operator: "and", conditions: [] }))).json.records,
    ).toHaveLength(2);
  });

  test.each<[string, object]>([
    ["Unsupported comparison_operator 'like'", { conditions: [condition("lang", "like", "e")] }],
    ["a date of RFC 3339", { conditions: [condition("day", "before", "2024-13-01")] }],
    ["expected a text", { conditions: [condition("lang", "contains", ["e"])] }],
    ["expected a number", { conditions: [condition("year", ">", "long ago")] }],
    ["'and' or 'or'", { logical_operator: "xor", conditions: [condition("lang", "is", "en")] }],
    ["metadata_condition.conditions[0].name", { conditions: [condition("", "is", "en")] }],
    ["metadata_condition.conditions[0].value", { conditions: [condition("lang", "is", null)] }],
    ["expected an array", { conditions: { a: 1 } }],
    ["256", { conditions: Array.from({ length: 300 }, () => condition("lang", "is", "en")) }],
  ])("that Dify does not have are refused: %s", async (named, sent) => {
    const { status, json } = await retrieve(request("faq", sent));
    expect(status).toBe(400);
    expect(json).toEqual({ error_code: 400, error_msg: expect.stringContaining(named) });
  });
});

const scopeless = await keyWith(["files.read"]);
const listed = await keyWith(undefined, ["faq"]);

describe("errors have Dify's codes", () => {
  test.each<[string, number, number, string, string | undefined]>([
    ["no key", 401, 1001, "faq", undefined],
    ["another scheme", 401, 1001, "faq", "Basic a"],
    ["a wrong key", 401, 1002, "faq", "Bearer wrong"],
    ["a key without the scope", 403, 1002, "faq", `Bearer ${scopeless}`],
    ["an unknown store", 404, 2001, "none", `Bearer ${key}`],
    ["a foreign store", 404, 2001, "foreign", `Bearer ${key}`],
    ["an unlisted store", 404, 2001, "private", `Bearer ${listed}`],
  ])("%s", async (_name, status, code, store, authorization) => {
    const headers = { "content-type": "application/json", ...(authorization && { authorization }) };
    const reply = await send(`${server.url}/retrieval`, "POST", JSON.stringify(request(store)), headers);
    expect([reply.status, JSON.parse(reply.text)]).toEqual([
      status,
      { error_code: code, error_msg: expect.stringMatching(/\w/) },
    ]);
  });

  test("an empty request, by which Dify checks the endpoint, is neither 403, 404 nor 502", async () => {
    const reply = await send(`${server.url}/retrieval`, "POST", undefined, {
      authorization: `Bearer ${key}`,
    });
    expect([reply.status, JSON.parse(reply.text)]).toEqual([
      400,
      { error_code: 400, error_msg: expect.stringContaining("knowledge_id") },
    ]);
    const wrong = await send(`${server.url}/retrieval`, "POST", undefined, { authorization: "Bearer wrong" });
    expect(wrong.status).toBe(401);
  });
});
