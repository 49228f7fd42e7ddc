import { encode } from "gpt-tokenizer/encoding/cl100k_base";
import { afterAll, describe, expect, test } from "vitest";
import { LEXICAL_MODEL } from "../../../src/models/lexical.ts";
import type { Json, Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  const embed = (request: Json): Promise<Reply> =>
    call("ModelService/Embed", { model: LEXICAL_MODEL, ...request });

  test("a text has one vector of the model's length, the same each time", async () => {
    const reply = await embed({ input: "a whale", dimensions: 1536, encoding_format: "float", user: "u" });
    expect(reply).toMatchObject({
      object: "list",
      model: LEXICAL_MODEL,
      data: [{ object: "embedding", index: 0 }],
      usage: { prompt_tokens: 0, total_tokens: 0 },
    });
    const [{ embedding }] = reply.data;
    expect(embedding).toHaveLength(1536);
    expect(Math.hypot(...embedding)).toBeCloseTo(1, 5);
    expect((await embed({ input: ["a whale"] })).data[0].embedding).toEqual(embedding);
  });

  test("texts have their vectors in order, equal texts equal ones", async () => {
    const { data } = await embed({ input: ["one", "two", "one"] });
    expect(data.map((item: Reply) => item.index)).toEqual([0, 1, 2]);
    expect(data[0].embedding).toEqual(data[2].embedding);
    expect(data[0].embedding).not.toEqual(data[1].embedding);
  });

  test("tokens are embedded as the text they stand for", async () => {
    const texts = ["Wal und Größe 🐘", "one"];
    const { data } = await embed({ input: texts });
    const vectors = data.map(({ embedding }: Reply) => embedding);
    const tokens = texts.map((text) => encode(text));
    expect((await embed({ input: tokens })).data.map(({ embedding }: Reply) => embedding)).toEqual(vectors);
    expect((await embed({ input: tokens[0] })).data).toMatchObject([{ embedding: vectors[0] }]);
  });

  test("a routing prefix of LiteLLM's is dropped, and null is absent", async () => {
    const nulls = { dimensions: null, encoding_format: null, user: null };
    for (const prefix of ["openai/", "litellm_proxy/"]) {
      const reply = await embed({ input: "x", ...nulls, model: prefix + LEXICAL_MODEL });
      expect(reply.model).toBe(LEXICAL_MODEL);
    }
  });

  test.each<[string, Json, string, string, string]>([
    ["no input", {}, "MISSING_REQUIRED_PARAMETER", "input", "Missing required parameter: 'input'."],
    ["no texts", { input: [] }, "MISSING_REQUIRED_PARAMETER", "input", "Missing"],
    ["an empty text", { input: "" }, "INVALID_VALUE", "input", "not empty"],
    ["an empty text among others", { input: ["x", ""] }, "INVALID_VALUE", "input[1]", "not empty"],
    ["a token that is none", { input: [64, 100256] }, "INVALID_VALUE", "input", "cl100k_base"],
    ["a special token", { input: [[64], [100257]] }, "INVALID_VALUE", "input[1]", "cl100k_base"],
    ["a decimal token", { input: [1.5] }, "INVALID_VALUE", "input", "cl100k_base"],
    ["a text among tokens", { input: [64, "x"] }, "INVALID_TYPE", "input[1]", "expected a token"],
    ["no tokens", { input: [[]] }, "INVALID_VALUE", "input[0]", "not empty"],
    ["a number", { input: 64 }, "INVALID_TYPE", "input", "expected a text or an array"],
    [
      "too many tokens",
      { input: [[64], Array(300_000).fill(64)] },
      "ARRAY_ABOVE_MAX_LENGTH",
      "input",
      "300000",
    ],
    ["an object", { input: { text: "x" } }, "INVALID_TYPE", "input", "expected a text or an array"],
    [
      "too many texts",
      { input: Array(2049).fill("x") },
      "ARRAY_ABOVE_MAX_LENGTH",
      "input",
      "maximum length 2048",
    ],
    [
      "too much text",
      { input: "é".repeat(4_194_305) },
      "STRING_ABOVE_MAX_LENGTH",
      "input",
      "at most 8388608",
    ],
    ["no model", { input: "x", model: "" }, "MISSING_REQUIRED_PARAMETER", "model", "'model'"],
    ["another length", { input: "x", dimensions: 256 }, "INVALID_VALUE", "dimensions", "1536 dimensions"],
    [
      "another format",
      // A number that is none of the enum's can be sent in protobuf only.
      { input: "x", encoding_format: protocol.name.startsWith("REST") ? "hex" : 99 },
      "INVALID_VALUE",
      "encoding_format",
      "'base64'",
    ],
  ])("%s is refused", async (_what, request, reason, param, message) => {
    await expect(embed(request)).rejects.toMatchObject({
      code: "invalid_argument",
      reason,
      param,
      message: expect.stringContaining(message),
    });
  });

  test("another model than the service's is not found", async () => {
    const refusal = {
      code: "not_found",
      reason: "MODEL_NOT_FOUND",
      param: "model",
      message: "The model 'gpt-9' does not exist or you do not have access to it.",
    };
    await expect(embed({ input: "x", model: "gpt-9" })).rejects.toMatchObject(refusal);
    await expect(call("ModelService/GetModel", { model: "gpt-9" })).rejects.toMatchObject(refusal);
  });

  test("the one model is listed, and found by its name", async () => {
    const model = { id: LEXICAL_MODEL, object: "model", created: 0, owned_by: "pgquiver" };
    expect(await call("ModelService/ListModels")).toEqual({ object: "list", data: [model] });
    for (const name of [LEXICAL_MODEL, `openai/${LEXICAL_MODEL}`]) {
      expect(await call("ModelService/GetModel", { model: name })).toEqual(model);
    }
  });
});
