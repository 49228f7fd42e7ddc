import { buffer } from "node:stream/consumers";
import { crc32, deflateRawSync, deflateSync } from "node:zlib";
import {
  Document,
  FootnoteReferenceRun,
  HeadingLevel,
  Packer,
  Paragraph,
  Table,
  TableCell,
  TableRow,
} from "docx";
import PDFDocument from "pdfkit";
import PptxGenJS from "pptxgenjs";
import writeXlsxFile, { type SheetData } from "write-excel-file/node";

/** Makes a DOCX with a heading, paragraphs, a table, and a footnote of the last paragraph. */
export async function makeDocx(parts: {
  heading: string;
  paragraphs: string[];
  rows: string[][];
  footnote: string;
}): Promise<Buffer> {
  const rows = parts.rows.map(
    (row) =>
      new TableRow({ children: row.map((cell) => new TableCell({ children: [new Paragraph(cell)] })) }),
  );
  const document = new Document({
    footnotes: { 1: { children: [new Paragraph(parts.footnote)] } },
    sections: [
      {
        children: [
          new Paragraph({ text: parts.heading, heading: HeadingLevel.HEADING_1 }),
          ...parts.paragraphs.map((text) => new Paragraph(text)),
          new Table({ rows }),
          new Paragraph({ children: [new FootnoteReferenceRun(1)] }),
        ],
      },
    ],
  });
  return Packer.toBuffer(document);
}

/** Makes a PPTX with one slide per text, each with notes. */
export async function makePptx(slides: { text: string; notes: string }[]): Promise<Buffer> {
  // The package's types wrongly declare the class as a property `default`.
  const Presentation = PptxGenJS as unknown as typeof PptxGenJS.default;
  const presentation = new Presentation();
  for (const { text, notes } of slides) {
    const slide = presentation.addSlide();
    slide.addText(text, { x: 1, y: 1 });
    slide.addNotes(notes);
  }
  return (await presentation.write({ outputType: "nodebuffer" })) as Buffer;
}

/** Makes an XLSX with named sheets. */
export async function makeXlsx(sheets: { sheet: string; data: SheetData }[]): Promise<Buffer> {
  return writeXlsxFile(sheets).toBuffer();
}

/** Makes a PDF with one page per text. For an empty text the page has a box instead of letters. */
export async function makePdf(pages: string[], options: PDFKit.PDFDocumentOptions = {}): Promise<Buffer> {
  const document = new PDFDocument({ ...options, autoFirstPage: false });
  const bytes = buffer(document);
  for (const page of pages) {
    document.addPage();
    if (page === "") document.rect(10, 10, 100, 100).fill();
    else document.text(page);
  }
  document.end();
  return bytes;
}

/** Makes a zip archive. `declared`: a false uncompressed size for an entry. */
export function makeZip(entries: { name: string; data: Buffer | string; declared?: number }[]): Buffer {
  const files: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, data, declared } of entries) {
    const bytes = Buffer.from(data);
    const packed = deflateRawSync(bytes, { level: 9 });
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(8, 4);
    common.writeUInt32LE(crc32(bytes), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(declared ?? bytes.length, 18);
    common.writeUInt16LE(name.length, 22);
    files.push(Buffer.from("PK\x03\x04"), common, Buffer.from(name), packed);
    const end = Buffer.alloc(14);
    end.writeUInt32LE(offset, 10);
    directory.push(Buffer.from("PK\x01\x02\x14\0"), common, end, Buffer.from(name));
    offset += 30 + name.length + packed.length;
  }
  const size = directory.reduce((total, part) => total + part.length, 0);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(entries.length, 4);
  end.writeUInt16LE(entries.length, 6);
  end.writeUInt32LE(size, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...files, ...directory, Buffer.from("PK\x05\x06"), end]);
}

/** Makes a minimal DOCX with `body` as the XML of its document. */
export function makeRawDocx(
  body: string | Buffer,
  more: { name: string; data: Buffer | string }[] = [],
): Buffer {
  const relation =
    '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/>';
  return makeZip([
    { name: "_rels/.rels", data: `<Relationships>${relation}</Relationships>` },
    { name: "word/document.xml", data: body },
    ...more,
  ]);
}

/** Makes a PDF of one page with this content. */
export function makePdfOf(content: string | Buffer): Buffer {
  const stream = deflateSync(content, { level: 9 });
  const objects = [
    "<</Type/Catalog/Pages 2 0 R>>",
    "<</Type/Pages/Kids[3 0 R]/Count 1>>",
    "<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>>",
    `<</Length ${stream.length}/Filter/FlateDecode>>\nstream\n${stream.toString("latin1")}\nendstream`,
  ];
  const body = objects.map((object, i) => `${i + 1} 0 obj\n${object}\nendobj\n`).join("");
  return Buffer.from(`%PDF-1.4\n${body}trailer<</Size 5/Root 1 0 R>>\n%%EOF`, "latin1");
}

/** Makes a PDF that takes pdf.js hours: each of its graphics states is saved with all before it. */
export function makeSlowPdf(): Buffer {
  return makePdfOf(`${"q ".repeat(200_000)}BT ET`);
}

/** Collects all items of an iterable. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}
