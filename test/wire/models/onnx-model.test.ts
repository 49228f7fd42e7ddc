import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { readConfig } from "../../../src/config.ts";
import { createOnnxEmbedder } from "../../../src/models/onnx.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { send } from "../../support/clients/http.ts";
import { TOKENS_MAX, writeOnnxModel } from "../../support/servers/onnx-model.ts";
import { start } from "../../support/servers/process.ts";
import { startServer } from "../../support/servers/server.ts";

const never = new AbortController().signal;

test("a store is filled and searched by the model of a directory, whose name it has", async () => {
  await using database = await openTestDatabase();
  const directory = writeOnnxModel("synonyms");
  await using server = await startServer({ database, embedder: createOnnxEmbedder(directory) });
  const post = async (path: string, body: unknown) =>
    JSON.parse((await send(`${server.url}/v1/${path}`, "POST", JSON.stringify(body))).text);
  const { id } = await post("vector_stores", { name: "things" });
  for (const content of ["a banana", "one car", "much snow"])
    await post(`vector_stores/${id}/embeddings`, { content });
  const { data } = await post(`vector_stores/${id}/search`, { query: "Automobile" });
  expect(data[0].content[0].text).toBe("one car");
  expect(data[0].score).toBeGreaterThan(0.9);
  const { rows } = await database.pool.query("select embedding_model from vector_stores");
  expect(rows).toEqual([{ embedding_model: "synonyms" }]);
});

test("a text has the same vector beside longer ones, and is read to its end", async () => {
  const embedder = createOnnxEmbedder(writeOnnxModel("synonyms"));
  const long = `${"car ".repeat(3 * TOKENS_MAX)}${"banana ".repeat(3 * TOKENS_MAX)}`;
  const [alone] = (await embedder.embed(["car fruit"], never)).vectors;
  const [beside, whole, empty] = (await embedder.embed(["car fruit", long, ""], never)).vectors;
  expect(beside).toEqual(alone);
  // Half of the words are cars, half are fruits.
  expect(whole?.[0]).toBeCloseTo(Math.SQRT1_2, 1);
  expect(whole?.[1]).toBeCloseTo(Math.SQRT1_2, 1);
  expect(Math.hypot(...(empty as Float32Array))).toBeCloseTo(1);
});

test("what a directory lacks is said before the start, by the name of the file", () => {
  const directory = writeOnnxModel("broken");
  writeFileSync(join(directory, "config.json"), "{");
  expect(() => createOnnxEmbedder(directory)).toThrow(/config\.json cannot be used: .*JSON/);
  rmSync(join(directory, "tokenizer.json"));
  expect(() => createOnnxEmbedder(directory)).toThrow("has no tokenizer.json");
  rmSync(join(directory, "onnx"), { recursive: true });
  expect(() => createOnnxEmbedder(directory)).toThrow("has no model.onnx or onnx/model.onnx");
  rmSync(directory, { recursive: true });
  expect(() => createOnnxEmbedder(directory)).toThrow(`there is no directory ${directory}`);
  expect(() => createOnnxEmbedder(writeOnnxModel("pgquiver-meaning-v1"))).toThrow("named like a model");
});

test("a file that is no model fails the call, and says so in the error's cause", async () => {
  const directory = writeOnnxModel("nonsense");
  writeFileSync(join(directory, "onnx", "model.onnx"), "no model");
  const embedder = createOnnxEmbedder(directory);
  await expect(embedder.embed(["car"], never)).rejects.toMatchObject({
    code: 14,
    rawMessage: expect.stringContaining("nonsense failed"),
    // What the log shows.
    cause: { message: expect.stringMatching(/protobuf|ModelProto|load/i) },
  });
});

test("a directory without a model ends the start before there is a database, by the variable's name", async () => {
  const data = join(mkdtempSync(join(tmpdir(), "pgquiver-test-")), "data");
  onTestFinished(() => rmSync(dirname(data), { recursive: true }));
  const fatal = (directory: string) => `there is no directory ${directory}`;
  const model = { EMBEDDING__MODEL: "/nowhere" };
  expect(await start({ DATA_DIRECTORY: data, ...model }).ended).toMatchObject({
    code: 1,
    fatal: `EMBEDDING__MODEL: ${fatal("/nowhere")}`,
  });
  const former = { EMBEDDING__FORMER__MODEL: "/before" };
  expect(await start({ DATA_DIRECTORY: data, ...former }).ended).toMatchObject({
    code: 1,
    fatal: `EMBEDDING__FORMER__MODEL: ${fatal("/before")}`,
  });
  expect(existsSync(data)).toBe(false);
  // Nor is somebody who chose a model told to choose a better one.
  const chosen = { EMBEDDING__MODEL: writeOnnxModel("synonyms") };
  const { messages, said } = start({ DATA_DIRECTORY: data, PORT: "0", ...chosen });
  await said(/^Without a key/);
  expect(messages).not.toContainEqual(expect.stringMatching(/^For search by meaning/));
}, 60_000);

test("EMBEDDING__MODEL names a directory by its path, and needs no endpoint", () => {
  const local = { DATABASE_URL: "postgres://localhost/x" };
  expect(readConfig({ ...local, EMBEDDING__MODEL: "./models/small" }).localModel).toBe("./models/small");
  expect(() => readConfig({ ...local, EMBEDDING__MODEL: "models/small" })).toThrow("EMBEDDING__BASE_URL");
  expect(() =>
    readConfig({ ...local, EMBEDDING__MODEL: "/m", EMBEDDING__BASE_URL: "http://localhost:4000" }),
  ).toThrow("EMBEDDING__MODEL: a directory");
});
