import { describe, expect, test } from "vitest";
import type { Chunking, DocumentChunk } from "../../../src/documents/cutter.ts";
import { readDocument } from "../../../src/documents/document.ts";
import {
  collect,
  makeDocx,
  makePdf,
  makePptx,
  makeRawDocx,
  makeXlsx,
  makeZip,
} from "../../support/stores/documents.ts";

const limits = {
  wholeBytesMax: 10_000_000,
  htmlBytesMax: 10_000_000,
  archiveEntriesMax: 100,
  archiveBytesMax: 50_000_000,
  textBytesMax: 10_000_000,
  chunksMax: 100_000,
};

/** Each text of `filler`, also with hashes, is a chunk of its own: two of them do not fit. */
const byLine: Chunking = { unit: "characters", sizeMax: 40, overlap: 0 };

/** Reads a file that arrives in parts of `size` bytes. */
async function read(filename: string, data: Buffer | string, chunking = byLine, size = 11) {
  const bytes = Buffer.from(data);
  async function* parts() {
    for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
  }
  return (await collect(readDocument({ filename, chunking }, parts(), limits))).flat();
}

/** The headings of the chunk that has a text. */
function headingsOf(chunks: readonly DocumentChunk[], text: string): string[] {
  const chunk = chunks.find((one) => one.text.includes(text));
  expect(chunk, `a chunk with ${text}`).toBeDefined();
  return chunk?.place.headings ?? [];
}

/** A text of 30 to 34 characters that begins with a name. */
const filler = (name: string) => `${name}${" so on".repeat(6)}`.slice(0, 34).trimEnd();

describe("the range of a chunk", () => {
  test("selects it in the file's text, by code points, also where chunks overlap", async () => {
    const text = Array.from({ length: 60 }, (_, n) => `Zeile ${n} über 🚀 und 東京.\r\n`).join("");
    for (const overlap of [0, 15]) {
      const chunks = await read("a.txt", text, { ...byLine, overlap });
      expect(chunks.length).toBeGreaterThan(30);
      const characters = Array.from(text.replaceAll("\r\n", "\n"));
      for (const { text: chunk, place } of chunks)
        expect(characters.slice(place.start, place.end).join("")).toBe(chunk);
    }
  });

  test("is all that is known of a text without pages and headings", async () => {
    const [chunk] = await read("a.txt", "  # No Markdown.\n");
    expect(chunk).toEqual({ text: "# No Markdown.", place: { start: 2, end: 16 } });
  });

  test("of a file of many chunks goes on across parts of any size", async () => {
    const text = Array.from({ length: 500 }, (_, n) => `# Part ${n}\n\n${filler(`Text ${n}`)}\n\n`).join("");
    const whole = await read("a.md", text, byLine, 1_000_000);
    expect(await read("a.md", text, byLine, 7)).toEqual(whole);
    expect(whole.at(-1)?.place).toMatchObject({ headings: ["Part 499"], end: text.trimEnd().length });
  });
});

describe("pages", () => {
  test("of a PDF are numbered as they follow each other, those without text too", async () => {
    const chunks = await read("a.pdf", await makePdf([filler("One"), "", filler("Three"), filler("Four")]));
    expect(chunks.map(({ text, place }) => [text.split(" ")[0], place.page, place.lastPage])).toEqual([
      ["One", 1, 1],
      ["Three", 3, 3],
      ["Four", 4, 4],
    ]);
  });

  test("are those on which a chunk begins and ends", async () => {
    const pdf = await makePdf(["First.", "Second.", "Third."]);
    const [chunk] = await read("a.pdf", pdf, { unit: "tokens", sizeMax: 800, overlap: 0 });
    expect(chunk?.place).toMatchObject({ page: 1, lastPage: 3 });
  });

  test("are the slides of a presentation, with their notes", async () => {
    const slides = ["One", "Two", "Three"].map((name) => ({
      text: filler(name),
      notes: filler(`Notes of ${name}`),
    }));
    const chunks = await read("a.pptx", await makePptx(slides));
    for (const [index, name] of ["One", "Two", "Three"].entries())
      for (const text of [`${name} so`, `Notes of ${name}`])
        expect(chunks.find((one) => one.text.includes(text))?.place).toMatchObject({ page: index + 1 });
  });

  test("are the sheets of a spreadsheet, whose names are headings", async () => {
    const data = [[{ value: filler("Row") }], [{ value: filler("Row") }]];
    const chunks = await read(
      "a.xlsx",
      await makeXlsx([
        { sheet: "North", data },
        { sheet: "South", data },
      ]),
    );
    expect(chunks[0]?.place).toMatchObject({ page: 1, headings: ["North"] });
    expect(chunks.at(-1)?.place).toMatchObject({ page: 2, lastPage: 2, headings: ["South"] });
  });
});

describe("headings of Markdown", () => {
  test("are the path to the chunk", async () => {
    const chunks = await read(
      "a.md",
      [
        filler("Before"),
        `# ${filler("Shop")} #`,
        filler("Welcome"),
        `## ${filler("Returns")}`,
        filler("Send it back"),
        `### ${filler("Refunds")}`,
        filler("Money"),
        `## ${filler("Shipping")}`,
        filler("By ship"),
        "#",
        filler("Free"),
      ].join("\n\n"),
    );
    expect(headingsOf(chunks, "Before")).toEqual([]);
    expect(headingsOf(chunks, "Welcome")).toEqual(["Shop"].map(filler));
    expect(headingsOf(chunks, "Send")).toEqual(["Shop", "Returns"].map(filler));
    expect(headingsOf(chunks, "Money")).toEqual(["Shop", "Returns", "Refunds"].map(filler));
    expect(headingsOf(chunks, "By ship")).toEqual(["Shop", "Shipping"].map(filler));
    expect(headingsOf(chunks, "Free")).toEqual([]);
  });

  test("may be underlined", async () => {
    const text = `Title\n=====\nPart one\n--------\n\n${filler("First")}\n\n  Part two  \n---\n${filler("Second")}`;
    const chunks = await read("a.markdown", text);
    expect(headingsOf(chunks, "First")).toEqual(["Title", "Part one"]);
    expect(headingsOf(chunks, "Second")).toEqual(["Title", "Part two"]);
  });

  test("are none in code, front matter, lists, quotations and long lines", async () => {
    const none = [
      "---\ntitle: No\n---",
      "```sh\n# no\n~~~\n# no\n```",
      "~~~~\n# no\n~~~\n# no\n~~~~",
      "    # no",
      "- an item\n---",
      "> a quotation\n---",
      "a paragraph\nof two lines\n---",
      "#no",
      "####### no",
      `# ${"x".repeat(1_100)}`,
    ];
    const chunks = await read("a.md", [...none, "", filler("Text")].join("\n\n"));
    expect(headingsOf(chunks, "Text")).toEqual([]);
    const after = await read("a.md", [...none, `# ${filler("Yes")}`, filler("Text")].join("\n\n"));
    expect(headingsOf(after, "Text")).toEqual([filler("Yes")]);
  });

  test("leave the text as it is", async () => {
    const text = `# A\n\n${filler("B")}\n\nC\n---\n${"y".repeat(5_000)}\n# D`;
    const ofMarkdown = await read("a.md", text);
    const ofText = await read("a.txt", text);
    expect(ofMarkdown.map((chunk) => chunk.text)).toEqual(ofText.map((chunk) => chunk.text));
    expect(headingsOf(ofMarkdown, "yyyy")).toEqual(["A", "C"]);
  });

  test("are kept up to 200 characters of six levels, however many there are", async () => {
    const path = Array.from({ length: 6 }, (_, n) => `${"#".repeat(n + 1)} ${"🚀".repeat(400)}`);
    const chunks = await read("a.md", [...path, filler("Text")].join("\n\n"));
    expect(headingsOf(chunks, "Text")).toEqual(Array(6).fill("🚀".repeat(200)));
    const hostile = await read("a.md", `${"# a\n## b\n".repeat(50_000)}\nText`, {
      unit: "tokens",
      sizeMax: 4_096,
      overlap: 2_048,
    });
    expect(hostile.at(-1)?.place.headings?.[0]).toBe("a");
  });
});

describe("headings of other formats", () => {
  test("of HTML are those of its elements", async () => {
    const html = `<title>Shop</title><p>${filler("Before")}</p><main><h1> The
      <em>shop</em>${filler("The shop").slice(8)} </h1><p>${filler("Welcome")}</p>
      <section><h2><div>R &amp; D${filler("R & D").slice(5)}</div></h2><p>${filler("Send it back")}</p></section>
      <h2></h2><p>${filler("Free")}</p></main>`;
    const chunks = await read("a.html", html);
    expect(headingsOf(chunks, "Before")).toEqual([]);
    expect(headingsOf(chunks, "Welcome")).toEqual([filler("The shop")]);
    expect(headingsOf(chunks, "Send it back")).toEqual([filler("The shop"), filler("R & D")]);
    expect(headingsOf(chunks, "Free")).toEqual([filler("The shop")]);
    expect(chunks.map(({ text }) => text).join("\n")).not.toMatch(/[\ufdd0\d]/u);
  });

  test("of DOCX are paragraphs with a heading's style; what follows the body is below none", async () => {
    const docx = await makeDocx({
      heading: filler("Terms"),
      paragraphs: [filler("Paragraph")],
      rows: [[filler("Cell")]],
      footnote: filler("Footnote"),
    });
    const chunks = await read("a.docx", docx);
    for (const text of ["Terms", "Paragraph", "Cell"])
      expect(headingsOf(chunks, text)).toEqual([filler("Terms")]);
    expect(headingsOf(chunks, "Footnote")).toEqual([]);
  });

  test("of DOCX are known by the outline level of the style, of its base, or of the paragraph", async () => {
    const style = (id: string, inner: string) => `<w:style w:styleId="${id}">${inner}</w:style>`;
    const paragraph = (properties: string, text: string) =>
      `<w:p><w:pPr>${properties}</w:pPr><w:r><w:t>${text}</w:t></w:r></w:p>`;
    const named = (id: string, text: string) => paragraph(`<w:pStyle w:val="${id}"/>`, text);
    const relation =
      '<Relationship Id="s" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" Target="styles.xml"/>';
    const docx = makeRawDocx(
      `<w:document><w:body>${[
        named("berschrift1", filler("Kapitel")),
        named("Mein", filler("Abschnitt")),
        paragraph('<w:outlineLvl w:val="2"/>', filler("Absatz")),
        named("Text", filler("Worte")),
        paragraph(
          '<w:pStyle w:val="Text"/><w:pPrChange><w:pPr><w:pStyle w:val="berschrift1"/></w:pPr></w:pPrChange>',
          filler("Mehr"),
        ),
        `<w:tbl><w:tr><w:tc>${named("berschrift1", filler("Zelle"))}</w:tc></w:tr></w:tbl>`,
        named("Schleife", filler("Ende")),
      ].join("")}</w:body></w:document>`,
      [
        { name: "word/_rels/document.xml.rels", data: `<Relationships>${relation}</Relationships>` },
        {
          name: "word/styles.xml",
          data: `<w:styles>${[
            style("berschrift1", '<w:name w:val="heading 1"/>'),
            style("U2", '<w:name w:val="U"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr>'),
            style("Mein", '<w:name w:val="Mein"/><w:basedOn w:val="U2"/>'),
            style("Text", '<w:basedOn w:val="berschrift1"/><w:pPr><w:outlineLvl w:val="9"/></w:pPr>'),
            style("Schleife", '<w:basedOn w:val="Schleife"/>'),
          ].join("")}</w:styles>`,
        },
      ],
    );
    const chunks = await read("a.docx", docx);
    for (const text of ["Worte", "Mehr", "Zelle", "Ende"])
      expect(headingsOf(chunks, text)).toEqual(["Kapitel", "Abschnitt", "Absatz"].map(filler));
  });

  test("of a presentation are the titles of its slides", async () => {
    const shape = (placeholder: string, text: string) =>
      `<p:sp><p:nvSpPr><p:nvPr>${placeholder}</p:nvPr></p:nvSpPr><p:txBody><a:p><a:r><a:t>${text}</a:t></a:r></a:p></p:txBody></p:sp>`;
    const slide = (...shapes: string[]) => `<p:sld>${shapes.join("")}</p:sld>`;
    const office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    const relations = (...found: [string, string, string][]) =>
      `<Relationships>${found
        .map(([id, type, target]) => `<Relationship Id="${id}" Type="${office}/${type}" Target="${target}"/>`)
        .join("")}</Relationships>`;
    const pptx = makeZip([
      { name: "_rels/.rels", data: relations(["r1", "officeDocument", "ppt/presentation.xml"]) },
      {
        name: "ppt/presentation.xml",
        data: '<p:presentation><p:sldIdLst><p:sldId r:id="r1"/><p:sldId r:id="gone"/><p:sldId r:id="r2"/></p:sldIdLst></p:presentation>',
      },
      {
        name: "ppt/_rels/presentation.xml.rels",
        data: relations(["r1", "slide", "one.xml"], ["r2", "slide", "two.xml"]),
      },
      {
        name: "ppt/one.xml",
        data: slide(shape('<p:ph type="title"/>', filler("The plan")), shape("", filler("Steps"))),
      },
      { name: "ppt/two.xml", data: slide(shape("", filler("Pictures"))) },
    ]);
    const chunks = await read("a.pptx", pptx);
    expect(chunks.find(({ text }) => text.includes("Steps"))?.place).toMatchObject({
      page: 1,
      headings: [filler("The plan")],
    });
    const last = chunks.find(({ text }) => text.includes("Pictures"))?.place;
    expect(last).toMatchObject({ page: 3 });
    expect(last?.headings).toBeUndefined();
  });
});
