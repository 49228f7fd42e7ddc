import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { readDocument, type DocumentLimits } from "../../../src/documents/document.ts";
import {
  collect,
  makeDocx,
  makePdf,
  makePptx,
  makeRawDocx,
  makeXlsx,
  makeZip,
} from "../../support/stores/documents.ts";

const limits: DocumentLimits = {
  wholeBytesMax: 10_000_000,
  htmlBytesMax: 1_000_000,
  archiveEntriesMax: 100,
  archiveBytesMax: 50_000_000,
  textBytesMax: 10_000_000,
  chunksMax: 10_000,
};

/** The chunks of a file that arrives in parts of a few bytes. */
async function chunksOf(filename: string, data: Buffer | string, changed: Partial<DocumentLimits> = {}) {
  const bytes = Buffer.from(data);
  async function* parts() {
    const size = Math.max(7, Math.ceil(bytes.length / 500));
    for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
  }
  const chunking = { unit: "tokens", sizeMax: 800, overlap: 0 } as const;
  const read = readDocument({ filename, chunking }, parts(), { ...limits, ...changed });
  return (await collect(read)).flat().map(({ text }) => text);
}

async function textOf(filename: string, data: Buffer | string): Promise<string> {
  return (await chunksOf(filename, data)).join("\n");
}

async function failureOf(filename: string, data: Buffer | string, changed?: Partial<DocumentLimits>) {
  return chunksOf(filename, data, changed).then(
    () => expect.unreachable(),
    (error: unknown) => error,
  );
}

describe("text", () => {
  test.each([
    ["UTF-8", Buffer.from("Grüße aus 東京 🚀")],
    ["UTF-8 with a mark", Buffer.from("\ufeffGrüße aus 東京 🚀")],
    ["UTF-16 with a mark", Buffer.from("\ufeffGrüße aus 東京 🚀", "utf16le")],
    ["big-endian UTF-16 with a mark", Buffer.from("\ufeffGrüße aus 東京 🚀", "utf16le").swap16()],
  ])("is read in %s", async (_, data) => {
    expect(await textOf("a.txt", data)).toBe("Grüße aus 東京 🚀");
  });

  test.each([
    ["little-endian", Buffer.from("Plain letters, no mark.", "utf16le")],
    ["big-endian", Buffer.from("Plain letters, no mark.", "utf16le").swap16()],
  ])("is read in %s UTF-16 without a mark", async (_, data) => {
    expect(await textOf("a.txt", data)).toBe("Plain letters, no mark.");
  });

  test.each(["a.txt", "a.md", "a.py", "a.yaml", "a.unknown", "README", "a.pdf", "a.docx", "a.png"])(
    "is read under the name %s",
    async (filename) => {
      expect(await textOf(filename, "The sky is blue.\n")).toBe("The sky is blue.");
    },
  );

  test.each(["ID3 tags name songs.", "BZh is how bzip2 begins.", "The ftyp box"])(
    "that begins like a binary file is read: %s",
    async (text) => {
      expect(await textOf("a.txt", text)).toBe(text);
    },
  );

  test("has one kind of line end, and none of what Postgres refuses", async () => {
    const text = `one\r\ntwo\rthree${" four".repeat(20)}\0five`;
    expect(await textOf("a.txt", text)).toBe(`one\ntwo\nthree${" four".repeat(20)}five`);
  });

  test("in another encoding is refused with the way out", async () => {
    expect(await failureOf("a.txt", Buffer.from("Grüße aus Köln", "latin1"))).toMatchObject({
      code: "invalid_file",
      message: "The file is text in an encoding other than UTF-8 and UTF-16. Save it as UTF-8.",
    });
  });

  test("that breaks off inside a character or turns invalid later is refused", async () => {
    const late = Buffer.concat([Buffer.from("valid ".repeat(2_000)), Buffer.from([0xff, 0xfe])]);
    for (const data of [late, Buffer.from("Grü").subarray(0, -1)]) {
      expect(await failureOf("a.txt", data)).toMatchObject({
        code: "invalid_file",
        message: "The file is not valid UTF-8 text.",
      });
    }
  });

  test("of rows keeps them whole", async () => {
    const rows = Array.from({ length: 500 }, (_, i) => `${i},"Mr. Smith, St. Ives",${i * 3}`);
    const chunks = await chunksOf("a.csv", rows.join("\r\n"));
    expect(chunks.length).toBeGreaterThan(1);
    expect(chunks.flatMap((chunk) => chunk.split("\n"))).toEqual(rows);
  });

  test("of JSON on one line is cut between its items", async () => {
    const items = Array.from({ length: 300 }, (_, i) => ({ id: i, text: `a "quoted", comma\\` }));
    const chunks = await chunksOf("a.json", JSON.stringify({ items }));
    expect(chunks.length).toBeGreaterThan(1);
    expect(JSON.parse(chunks.join(""))).toEqual({ items });
    for (const chunk of chunks.slice(0, -1)) expect(chunk).toMatch(/[}"],$/);
  });
});

describe("HTML", () => {
  const page = `<!DOCTYPE html><html><head><title>Otters &amp; more</title><style>p { color: red }</style>
    <script>alert("no")</script></head><body><h1>The otter</h1><p>It <b>swims</b>.<br>And <a href="https://x.example">dives</a>.</p>
    <table><tr><th>Name</th><th>Age</th></tr><tr><td>Ole</td><td>7</td></tr></table></body></html>`;

  test.each(["a.html", "a.txt"])("named %s gives what its reader sees", async (filename) => {
    const text = await textOf(filename, page);
    expect(text).toMatch(/^Otters & more\n+The otter\n+It swims\.\nAnd dives\.\n+Name Age\nOle 7$/);
  });

  test.each([
    [
      "no body",
      "<!doctype html><html lang=en><meta charset=utf-8><title>Leave</title><h1>Days</h1><p>Thirty.</p>",
    ],
    ["neither html nor body", "<!doctype html><title>Leave</title><h1>Days</h1><p>Thirty.</p>"],
    [
      "text after its end",
      "<html><head><title>Leave</title></head><body><h1>Days</h1></body></html><p>Thirty.</p>",
    ],
    [
      "a body of its own for each part",
      "<title>Leave</title><body><h1>Days</h1></body><body><p>Thirty.</p></body>",
    ],
  ])("with %s is read whole, with its title once", async (_, html) => {
    expect(await textOf("a.html", html)).toMatch(/^Leave\s+Days\s+Thirty\.$/);
  });

  test("is read in the encoding it declares", async () => {
    const latin1 = Buffer.from('<html><meta charset="iso-8859-1"><p>Grüße</p></html>', "latin1");
    expect(await textOf("a.html", latin1)).toBe("Grüße");
  });

  test("beyond its limit is refused", async () => {
    expect(await failureOf("a.html", page, { htmlBytesMax: 100 })).toMatchObject({
      code: "invalid_file",
      message: expect.stringContaining("larger than 100 bytes"),
    });
  });
});

describe("a PDF", () => {
  test.each(["a.pdf", "a.bin"])("named %s gives the text of its pages in order", async (filename) => {
    const text = await textOf(filename, await makePdf(["The heron waits.", "The fish is gone."]));
    expect(text).toBe("The heron waits.\n\nThe fish is gone.");
  });

  test.each([
    ["with a password", makePdf(["secret"], { userPassword: "x" }), "The file is protected by a password."],
    ["without text", makePdf(["", ""]), "The file holds no text: its pages may be scanned images."],
    [
      "cut off",
      makePdf(["text ".repeat(2_000)]).then((bytes) => bytes.subarray(0, bytes.length / 2)),
      "The file is a damaged PDF.",
    ],
    [
      "of noise",
      Buffer.from(`%PDF-1.7\n${"\x80\x81noise".repeat(99)}`, "latin1"),
      "The file is a damaged PDF.",
    ],
  ])("%s is refused", async (_, bytes, message) => {
    expect(await failureOf("a.pdf", await bytes)).toMatchObject({ code: "invalid_file", message });
  });

  test("that only anybody's hand is kept off is read", async () => {
    const bytes = await makePdf(["Printing is forbidden."], { ownerPassword: "x", permissions: {} });
    expect(await textOf("a.pdf", bytes)).toBe("Printing is forbidden.");
  });
});

describe("an Office file", () => {
  const docx = makeDocx({
    heading: "Annual report",
    paragraphs: ["Revenue grew by seven percent.", "Costs did not."],
    rows: [
      ["City", "Oslo"],
      ["River", "Akerselva"],
    ],
    footnote: "Without the otter farm.",
  });

  test.each(["a.docx", "a.txt"])("of text, named %s, gives paragraphs, rows and notes", async (filename) => {
    expect(await textOf(filename, await docx)).toBe(
      "Annual report\n\nRevenue grew by seven percent.\n\nCosts did not.\n\nCity\tOslo\nRiver\tAkerselva\n\n" +
        "Without the otter farm.",
    );
  });

  test("of slides gives each with its notes, in order", async () => {
    const slides = Array.from({ length: 12 }, (_, i) => ({
      text: `Goal ${i}`,
      notes: `Mention ${i} walruses`,
    }));
    const text = await textOf("a.pptx", await makePptx(slides));
    expect(text.split(/\n+/)).toEqual(slides.flatMap((slide) => [slide.text, slide.notes]));
  });

  test("of sheets gives their names and rows, with dates as dates", async () => {
    const bytes = await makeXlsx([
      {
        sheet: "Orders",
        data: [
          ["Customer", "When", "Amount", "Paid"],
          [
            { value: "Ole & Co" },
            { value: new Date("2024-02-29T00:00:00Z"), type: Date, format: "yyyy-mm-dd" },
            { value: 1234.5, type: Number, format: "#,##0.00" },
            { value: true, type: Boolean },
          ],
        ],
      },
      { sheet: "Empty", data: [] },
      { sheet: "Notes", data: [["Call back"], [null, "Monday"]] },
    ]);
    expect(await textOf("a.xlsx", bytes)).toBe(
      "Orders\nCustomer\tWhen\tAmount\tPaid\nOle & Co\t2024-02-29\t1234.5\tTRUE\n\nEmpty\n\nNotes\nCall back\nMonday",
    );
  });

  test("says a shape's text once, keeps tabs and breaks, and leaves out what was deleted", async () => {
    const text = (inner: string) => `<w:r>${inner}</w:r>`;
    const body =
      `<w:document><w:body><w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr>` +
      text("<w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t><w:delText>gone</w:delText>") +
      "<mc:AlternateContent><mc:Choice><w:t>once</w:t></mc:Choice><mc:Fallback><w:t>twice</w:t></mc:Fallback>" +
      "</mc:AlternateContent></w:p></w:body></w:document>";
    expect(await textOf("a.docx", makeRawDocx(body))).toBe("a\tb\nconce");
  });

  test.each([
    ["cut off", docx.then((bytes) => bytes.subarray(0, 2_000)), "The file is damaged or truncated."],
    ["of broken XML", makeRawDocx("<w:document><w:p></w:document>"), /holds XML that is not well-formed/],
    ["with entities", makeRawDocx('<!DOCTYPE x [<!ENTITY a "b">]><w:p>&a;</w:p>'), /XML DOCTYPE/],
    ["without text", makeRawDocx("<w:document/>"), "The file holds no text."],
    ["of zeros only", makeRawDocx(Buffer.alloc(40_000_000)), /expands to a very large one/],
    [
      "of too many entries",
      makeRawDocx(
        "<w:p/>",
        Array.from({ length: 100 }, (_, i) => ({ name: `${i}`, data: "" })),
      ),
      /more than 100 entries/,
    ],
    [
      "that lies about its size",
      makeZip([{ name: "_rels/.rels", data: `<a>${" ".repeat(10_000)}</a>`, declared: 10 }]),
      "The file is damaged or truncated.",
    ],
    ["that is another archive", makeZip([{ name: "a", data: "b" }]), /is another archive/],
    ["that is not an archive", Buffer.from("\x80\x81\x82\x83\x84", "latin1"), /is not one/],
    ["locked", Buffer.from("d0cf11e0a1b11ae10000", "hex"), "The file is protected by a password."],
  ])("%s is refused", async (_, bytes, message) => {
    expect(await failureOf("a.docx", await bytes)).toMatchObject({
      code: "invalid_file",
      message: typeof message === "string" ? message : expect.stringMatching(message),
    });
  });
});

describe("a file without text to read", () => {
  test.each([
    ["a PNG image", "89504e470d0a1a0a0000000d49484452"],
    ["a JPEG image", "ffd8ffe000104a46"],
    ["a GIF image", Buffer.from("GIF89a\x01\0\x01\0").toString("hex")],
    ["a gzip archive", gzipSync("text").toString("hex")],
    ["a tar archive", Buffer.from("a\0".padEnd(257, "\0") + "ustar").toString("hex")],
    ["a ZIP archive", makeZip([{ name: "a", data: "b" }]).toString("hex")],
    ["an executable program", "7f454c46020101"],
    ["an SQLite database", Buffer.from("SQLite format 3\0").toString("hex")],
    ["an RTF document", Buffer.from("{\\rtf1 text}").toString("hex")],
    ["binary data", Buffer.from(Array.from({ length: 999 }, (_, i) => (i * i * 31) % 251)).toString("hex")],
    ["binary data", "00".repeat(100)],
  ])("is refused as %s, whatever its name", async (what, hex) => {
    for (const filename of ["a.txt", "a"]) {
      expect(await failureOf(filename, Buffer.from(hex, "hex"))).toMatchObject({
        code: "unsupported_file",
        message: expect.stringContaining(what),
      });
    }
  });

  test.each([
    ["empty", "", "The file is empty."],
    ["of white space", " \n\t \n", "The file holds no text."],
  ])("is refused as %s", async (_, data, message) => {
    expect(await failureOf("a.txt", data)).toMatchObject({ code: "invalid_file", message });
  });
});

test.each([
  ["bytes of text", { textBytesMax: 1_000 }, "more than 1000 bytes of text"],
  ["chunks", { chunksMax: 1 }, "more than 1 chunks"],
])("a file with too many %s is refused", async (_, changed, message) => {
  expect(await failureOf("a.txt", "words and more words. ".repeat(400), changed)).toMatchObject({
    code: "invalid_file",
    message: expect.stringContaining(message),
  });
});
