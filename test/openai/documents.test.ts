import { randomBytes } from "node:crypto";
import { OpenAI, toFile } from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeDocx, makePdf, makePptx, makeXlsx, makeZip } from "../support/stores/documents.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";

let server: TestServer;
let client: OpenAI;

beforeAll(async () => {
  server = await startServer();
  client = new OpenAI({ apiKey: "any", baseURL: `${server.url}/v1`, maxRetries: 0 });
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const FACTS = [
  "The lighthouse keeper counts seventeen ships every morning.",
  "Copper kettles are polished with vinegar and salt.",
  "The night train to Lisbon leaves from platform nine.",
];

/** A document of every kind, each with the three facts somewhere in it. */
const documents: [name: string, make: () => Promise<Buffer> | Buffer][] = [
  ["facts.txt", () => Buffer.from(spread(FACTS).join("\n\n"))],
  [
    "facts.md",
    () =>
      Buffer.from(
        spread(FACTS)
          .map((text) => `## Part\n\n${text}`)
          .join("\n\n"),
      ),
  ],
  [
    "facts.py",
    () =>
      Buffer.from(
        spread(FACTS)
          .map((text, index) => `def part_${index}():\n    """${text}"""\n`)
          .join("\n"),
      ),
  ],
  ["facts.json", () => Buffer.from(JSON.stringify(spread(FACTS).map((text) => ({ text }))))],
  [
    "facts.csv",
    () =>
      Buffer.from(
        spread(FACTS)
          .map((text, index) => `${index},"${text}"`)
          .join("\n"),
      ),
  ],
  [
    "facts.html",
    () =>
      Buffer.from(
        `<html><script>var hidden</script><body>${spread(FACTS)
          .map((text) => `<p>${text}</p>`)
          .join("")}</body>`,
      ),
  ],
  ["facts.pdf", async () => makePdf(spread(FACTS))],
  [
    "facts.docx",
    async () =>
      makeDocx({ heading: "Facts", paragraphs: spread(FACTS), rows: [["a", "b"]], footnote: "End" }),
  ],
  ["facts.pptx", async () => makePptx(spread(FACTS).map((text) => ({ text, notes: "" })))],
  ["facts.xlsx", async () => makeXlsx([{ sheet: "Facts", data: spread(FACTS).map((value) => [{ value }]) }])],
];

/** Puts other text between the facts, so that each ends up in a chunk of its own. */
function spread(facts: readonly string[]): string[] {
  return facts.flatMap((fact, index) => [
    fact,
    ...Array.from(
      { length: 4 },
      (_, line) => `Filler ${index}.${line}: ${"lorem ipsum dolor sit amet ".repeat(6)}`,
    ),
  ]);
}

/** Attaches a file to a new store, and waits until it is done with. */
async function process(name: string, bytes: Buffer) {
  const store = await client.vectorStores.create({});
  const { id } = await client.files.create({ file: await toFile(bytes, name), purpose: "assistants" });
  const file = await client.vectorStores.files.createAndPoll(store.id, {
    file_id: id,
    chunking_strategy: { type: "static", static: { max_chunk_size_tokens: 100, chunk_overlap_tokens: 0 } },
  });
  return { store: await client.vectorStores.retrieve(store.id), file };
}

test.each(documents)("%s answers each question with the right chunk", async (name, make) => {
  const { store, file } = await process(name, await make());
  expect(file).toMatchObject({ status: "completed", last_error: null });
  for (const fact of FACTS) {
    const { data } = await client.vectorStores.search(store.id, { query: fact, max_num_results: 1 });
    expect(data).toMatchObject([{ file_id: file.id, filename: name }]);
    expect(data[0]?.content[0]?.text.replaceAll(/\s+/g, " ")).toContain(fact);
  }
});

test("a document is read for what it is, whatever it is called", async () => {
  const { file } = await process("facts.txt", await makePdf(FACTS));
  expect(file.status).toBe("completed");
});

const broken: [
  what: string,
  name: string,
  make: () => Promise<Buffer> | Buffer,
  code: string,
  message: RegExp,
][] = [
  [
    "an encrypted PDF",
    "a.pdf",
    async () => makePdf(["secret"], { userPassword: "x" }),
    "invalid_file",
    /password/,
  ],
  [
    "a DOCX cut off",
    "a.docx",
    async () => cutOff(await documents[7]?.[1]()),
    "invalid_file",
    /damaged or truncated/,
  ],
  ["a zip bomb", "a.docx", makeBomb, "invalid_file", /./],
  ["binary noise", "a.txt", () => randomBytes(100_000), "unsupported_file", /binary data/],
  ["an empty file", "a.txt", () => Buffer.alloc(0), "invalid_file", /empty/],
];

test.each(broken)("%s fails, and says why", async (_, name, make, code, message) => {
  const { store, file } = await process(name, await make());
  expect(file).toMatchObject({
    status: "failed",
    last_error: { code, message: expect.stringMatching(message) },
  });
  expect(store).toMatchObject({ status: "completed", usage_bytes: 0, file_counts: { failed: 1, total: 1 } });
  expect((await client.vectorStores.search(store.id, { query: "anything" })).data).toEqual([]);
});

function cutOff(document: Buffer | undefined): Buffer {
  return (document as Buffer).subarray(0, (document as Buffer).length / 2);
}

/** A DOCX whose text is a thousand times as long as it. */
function makeBomb(): Buffer {
  const head = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>';
  return makeZip([
    { name: "[Content_Types].xml", data: "<Types/>" },
    {
      name: "_rels/.rels",
      data: '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"/>',
    },
    { name: "word/document.xml", data: head + " ".repeat(20_000_000) },
  ]);
}
