import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { createLexicalEmbedder } from "../../../src/models/lexical.ts";

const never = new AbortController().signal;
const embedder = createLexicalEmbedder();

async function vectorOf(text: string): Promise<Float32Array> {
  const { vectors } = await embedder.embed([text], never);
  return vectors[0] ?? expect.unreachable();
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, x, i) => sum + x * (b[i] ?? 0), 0);
}

async function similarity(a: string, b: string): Promise<number> {
  return dot(await vectorOf(a), await vectorOf(b));
}

const documents = {
  returns:
    "Items may be returned within 30 days of delivery for a full refund, if unused and in the original packaging.",
  shipping: "Standard shipping takes three to five business days; express shipments arrive the next morning.",
  password:
    "To reset a forgotten password, open the login page and follow the link in the e-mail we send you.",
  warranty: "The warranty covers manufacturing defects of the battery and the motor for two years.",
  invoice: "Invoices are sent as PDF on the first day of each month and are payable within fourteen days.",
  backup: "Backups of the database are taken every night and kept for six weeks in another region.",
  photosynthesis: "Plants turn sunlight, water and carbon dioxide into sugar and oxygen by photosynthesis.",
  volcano: "The volcano erupted in 1883 and was heard almost five thousand kilometres away.",
  german: "Die Kündigungsfrist beträgt drei Monate zum Ende des Vertragsjahres.",
  chinese: "客户可以在三十天内退回未使用的商品,并获得全额退款。",
};

describe("a question finds its document", () => {
  test.each([
    ["How do I return an item?", "returns"],
    ["Can I get a refund for an unused product?", "returns"],
    ["how long does shipping take", "shipping"],
    ["When will my express shipment arrive?", "shipping"],
    ["I forgot my passwords", "password"],
    ["Is a defective battery under warranty?", "warranty"],
    ["Where is my monthly invoice?", "invoice"],
    ["how often is the DATABASE backed up", "backup"],
    ["What do plants need sunlight for?", "photosynthesis"],
    ["volcanic eruptions of the 19th century", "volcano"],
    ["Wann kann ich den Vertrag kündigen?", "german"],
    ["商品如何退款?", "chinese"],
  ] as const)("%s", async (question, expected) => {
    const { vectors } = await embedder.embed([question, ...Object.values(documents)], never);
    const [asked = expect.unreachable(), ...found] = vectors;
    const scores = found.map((vector) => dot(asked, vector));
    expect(Object.keys(documents)[scores.indexOf(Math.max(...scores))]).toBe(expected);
  });
});

describe("a vector", () => {
  test("is the same in every run and every process", async () => {
    const bytes = new Uint8Array((await vectorOf("The same text has the same vector, 同じ.")).buffer);
    expect(createHash("sha256").update(bytes).digest("hex").slice(0, 16)).toBe("503144a098df84ef");
  });

  test.each([
    ["a sentence", documents.returns],
    ["a long text", Object.values(documents).join("\n").repeat(100)],
    ["function words", "the of and"],
    ["punctuation", "?!"],
    ["an emoji", "🚀"],
    ["half a surrogate pair", "\ud83d"],
    ["white space", " "],
    ["nothing", ""],
  ])("of %s has length 1", async (_, text) => {
    const vector = await vectorOf(text);
    expect(vector).toHaveLength(1536);
    expect(Math.abs(dot(vector, vector) - 1)).toBeLessThan(1e-6);
  });

  test("is not zero where two words cancel out", async () => {
    const small = createLexicalEmbedder(2);
    const words = ["the", "of", "and", "to", "in", "is", "it", "was"];
    const pairs = words.flatMap((a) => words.map((b) => `${a} ${b}`));
    const { vectors } = await small.embed(pairs, never);
    for (const vector of vectors) expect(Math.abs(dot(vector, vector) - 1)).toBeLessThan(1e-6);
  });

  test("differs between texts", async () => {
    const texts = [...Object.values(documents), "?", "!", "?!", "", " ", "🚀", "🧬", "1", "2", "a", "the"];
    const { vectors } = await embedder.embed(texts, never);
    expect(new Set(vectors.map((vector) => vector.join())).size).toBe(texts.length);
  });

  test("does not depend on case, width or composition", async () => {
    expect(await similarity("Café ﬁle ＡＢＣ", "CAFE\u0301 FILE abc")).toBeCloseTo(1, 6);
  });

  test("has the length asked for", async () => {
    const { vectors } = await createLexicalEmbedder(256).embed(["text"], never);
    expect(vectors[0]).toHaveLength(256);
  });
});

describe("nearness", () => {
  test("reaches the other forms of a word", async () => {
    const unrelated = await similarity("return", "volcano");
    for (const form of ["returns", "returned", "returning"]) {
      expect(await similarity("return", form)).toBeGreaterThan(unrelated + 0.2);
    }
  });

  test("owes more to words that say something than to those that do not", async () => {
    const query = "where is the invoice";
    expect(await similarity(query, "invoice 4711")).toBeGreaterThan(
      await similarity(query, "where is the volcano"),
    );
  });

  test("of texts that share nothing is near zero", async () => {
    expect(Math.abs(await similarity(documents.warranty, documents.chinese))).toBeLessThan(0.15);
  });
});

describe("a call", () => {
  test("answers for each text in order and counts no tokens", async () => {
    const reply = await embedder.embed(["one", "two", "one"], never);
    expect(reply.vectors).toEqual([await vectorOf("one"), await vectorOf("two"), await vectorOf("one")]);
    expect(reply.tokens).toBe(0);
  });

  test("lets others run and ends with the caller's signal", async () => {
    const caller = new AbortController();
    const reason = new Error("the caller left");
    const call = expect(embedder.embed(Array(1_000).fill("x ".repeat(40_000)), caller.signal)).rejects.toBe(
      reason,
    );
    setImmediate(() => caller.abort(reason));
    await call;
  });
});
