import { afterAll, describe, expect, test } from "vitest";
import { createDocumentReader } from "../../../src/documents/reader.ts";
import { collect, makeRawDocx, makeZip } from "../../support/stores/documents.ts";

/** Small files get 20 s in production; these take one or two. Those that grew with a square took minutes. */
const reader = createDocumentReader({
  workers: 1,
  memoryBytes: 512 * 1024 * 1024,
  timeoutMs: 20_000,
  timeoutMsPerMib: 10_000,
  timeoutMsMax: 300_000,
  textBytesMax: 512 * 1024 * 1024,
  chunksMax: 1_000_000,
});
afterAll(() => reader.close());

async function read(filename: string, data: string | Buffer): Promise<string> {
  const bytes = Buffer.from(data);
  async function* open() {
    for (let start = 0; start < bytes.length; start += 262_144) yield bytes.subarray(start, start + 262_144);
  }
  const chunking = { unit: "tokens", sizeMax: 800, overlap: 0 } as const;
  const source = { filename, bytes: bytes.length, open };
  const batches = await collect(reader.read(source, chunking, new AbortController().signal));
  return batches
    .flat()
    .map(({ text }) => text)
    .join(" ");
}

function relationsOf(...relations: [id: string, type: string, target: string][]): string {
  const rows = relations.map(
    ([id, type, target]) => `<Relationship Id="${id}" Type="x/${type}" Target="${target}"/>`,
  );
  return `<Relationships>${rows.join("")}</Relationships>`;
}

/** A workbook of sheets that refer to parts by the ids `ids`, each of which has a relationship to `target`. */
function makeWorkbook(ids: string[], sheet: string, strings: string): Buffer {
  const sheets = ids.map((id) => `<sheet name="S" r:id="${id}"/>`).join("");
  const unique = [...new Set(ids)].map((id): [string, string, string] => [id, "worksheet", "sheet.xml"]);
  return makeZip([
    { name: "_rels/.rels", data: relationsOf(["r", "officeDocument", "xl/workbook.xml"]) },
    { name: "xl/workbook.xml", data: `<workbook><sheets>${sheets}</sheets></workbook>` },
    {
      name: "xl/_rels/workbook.xml.rels",
      data: relationsOf(["s", "sharedStrings", "strings.xml"], ...unique),
    },
    { name: "xl/sheet.xml", data: `<worksheet>${sheet}</worksheet>` },
    { name: "xl/strings.xml", data: `<sst>${strings}</sst>` },
  ]);
}

describe("a page of elements nested deeper than can be read", () => {
  test.each(["div", "b", "p><b", "ul><li", "table><tr><td", "blockquote", "pre", "h1", "b><div"])(
    "is refused at once: %s",
    async (tag) => {
      const page = `<html>${`<${tag}>w`.repeat(1_000_000)}`;
      await expect(read("a.html", page)).rejects.toMatchObject({
        code: "invalid_file",
        message: "The file holds elements nested deeper than 5000 levels.",
      });
    },
  );
});

describe("a file of one thing a million times is read in time that grows with its size", () => {
  const million = 1_000_000;
  test.each([
    ["sentences of two letters", "a.txt", `x ${"ab. ".repeat(million)}`],
    ["full stops", "a.txt", `x${".".repeat(million)}`],
    ["carriage returns", "a.txt", `x${"\r".repeat(million)}`],
    ["letters without a space", "a.txt", "x".repeat(million)],
    ["nested lists in Markdown", "a.md", `${"> ".repeat(million)}x`],
    ["nested lists in JSON", "a.json", `${"[".repeat(million)}"x"${"]".repeat(million)}`],
    ["nested objects in JSON", "a.json", '{"x":'.repeat(million)],
    ["cells in a line of CSV", "a.csv", "x,".repeat(million)],
    ["attributes", "a.html", `<html><p ${Array.from({ length: million }, (_, i) => `a${i}=b`).join(" ")}>x`],
    ["end tags", "a.html", `<html>${"</div>".repeat(million)}x`],
    ["open comments", "a.html", `<html>x${"<!--".repeat(million)}`],
    ["open tags without names", "a.html", `<html>x${"<".repeat(million)}`],
    [
      "paragraphs inside each other",
      "a.docx",
      makeRawDocx(`<d>${"<w:p>".repeat(million / 2)}<w:t>x</w:t>${"</w:p>".repeat(million / 2)}</d>`),
    ],
    [
      "attributes of a paragraph",
      "a.docx",
      makeRawDocx(`<w:t ${Array.from({ length: million }, (_, i) => `a${i}="b"`).join(" ")}>x</w:t>`),
    ],
    [
      "cells in a row",
      "a.xlsx",
      makeWorkbook(["q"], `<row>${"<c><v>x</v></c>".repeat(million / 2)}</row>`, ""),
    ],
  ])("%s", async (_, filename, data) => {
    expect((await read(filename, data)).includes("x")).toBe(true);
  });
});

describe("a workbook", () => {
  test("of thousands of sheets that are one and the same part has its text once", async () => {
    const sheet = `<row><c><v>${"word ".repeat(20_000)}</v></c></row>`;
    const text = await read(
      "a.xlsx",
      makeWorkbook(
        Array.from({ length: 5_000 }, () => "q"),
        sheet,
        "",
      ),
    );
    expect(text.match(/word/g)?.length).toBe(20_000);
  });

  test("of a hundred thousand sheets finds their parts", async () => {
    const ids = Array.from({ length: 100_000 }, (_, i) => `q${i}`);
    expect(await read("a.xlsx", makeWorkbook(ids, "<row><c><v>word</v></c></row>", ""))).toContain("word");
  });

  test("whose cells refer to one long text of white space is read", async () => {
    const strings = `<si><t>${" \n".repeat(1_000_000)}x</t></si>`;
    const row = '<row><c t="s"><v>0</v></c></row>'.repeat(100_000);
    expect((await read("a.xlsx", makeWorkbook(["q"], row, strings))).match(/x/g)?.length).toBe(100_000);
  });
});
