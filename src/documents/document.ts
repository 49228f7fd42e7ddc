import { buffer } from "node:stream/consumers";
import { Cutter, type Chunking, type DocumentChunk } from "./cutter.ts";
import { invalidFile } from "./error.ts";
import { detectFormat, HEAD_BYTES, type Format } from "./format.ts";
import { breakJson } from "./json.ts";
import { markHeadings } from "./markdown.ts";
import type { Piece } from "./places.ts";
import { cleanText, decodeText, tidyText } from "./text.ts";

/** A file to be read: its name helps to detect the format. */
export interface Document {
  filename: string;
  chunking: Chunking;
}

/** How many pages of a file were read, of how many. */
export interface Pages {
  read: number;
  total: number;
}

/** Limits on one file; a file beyond them is an `invalid_file`. */
export interface DocumentLimits {
  /** Bytes of a PDF or Office file, which must be read into memory whole. */
  wholeBytesMax: number;
  /** Bytes of an HTML file, which must be read into memory whole. */
  htmlBytesMax: number;
  /** Entries of an Office file (a ZIP archive), and bytes that the entries may expand to. */
  archiveEntriesMax: number;
  archiveBytesMax: number;
  /** UTF-8 bytes of extracted text. */
  textBytesMax: number;
  chunksMax: number;
}

/** A batch is yielded once it has so many chunks or so many UTF-16 units. */
const BATCH_CHUNKS = 64;
const BATCH_CHARS = 131_072;

/**
 * Extracts the text of a file and yields its chunks in order, in batches. Streams plain text; reads other
 * formats into memory whole, and tells `onPages` how many pages were read. Throws a DocumentError, also after batches were yielded.
 */
export async function* readDocument(
  { filename, chunking }: Document,
  input: AsyncIterable<Uint8Array>,
  limits: DocumentLimits,
  onPages: (pages: Pages) => void = () => {},
): AsyncGenerator<DocumentChunk[]> {
  const { head, bytes } = await peek(input);
  if (head.length === 0) throw invalidFile("The file is empty.");
  const format = detectFormat(head, filename);
  const clean = cleanText(extractText(format, filename, bytes, limits, onPages));
  const isMarkdown = format.kind === "text" && format.isMarkdown;
  const texts = limitText(isMarkdown ? markHeadings(clean) : clean, limits.textBytesMax);
  const cutter = new Cutter(chunking, format.kind === "text" && format.prefersLines);
  let chunks = 0;
  for await (const batch of batchChunks(cutText(texts, cutter))) {
    chunks += batch.length;
    if (chunks > limits.chunksMax) throw invalidFile(`The file has more than ${limits.chunksMax} chunks.`);
    yield batch;
  }
  if (chunks > 0) return;
  throw invalidFile(
    format.kind === "pdf"
      ? "The file holds no text: its pages may be scanned images."
      : "The file holds no text.",
  );
}

/** Reads the first `HEAD_BYTES` bytes, and returns them with a stream of all bytes from the start. */
async function peek(
  input: AsyncIterable<Uint8Array>,
): Promise<{ head: Buffer; bytes: AsyncIterable<Uint8Array> }> {
  const iterator = input[Symbol.asyncIterator]();
  const parts: Uint8Array[] = [];
  let length = 0;
  while (length < HEAD_BYTES) {
    const { value, done } = await iterator.next();
    if (done === true) break;
    parts.push(value);
    length += value.length;
  }
  return {
    head: Buffer.concat(parts).subarray(0, HEAD_BYTES),
    bytes: (async function* () {
      yield* parts.splice(0);
      yield* { [Symbol.asyncIterator]: () => iterator };
    })(),
  };
}

async function* extractText(
  format: Format,
  filename: string,
  bytes: AsyncIterable<Uint8Array>,
  limits: DocumentLimits,
  onPages: (pages: Pages) => void,
): AsyncGenerator<Piece> {
  switch (format.kind) {
    case "text": {
      const texts = decodeText(bytes, format.encoding);
      yield* format.isDenseJson ? breakJson(texts) : texts;
      return;
    }
    case "html": {
      const { readHtml } = await import("./html.ts");
      yield* tidyText(readHtml(decodeText(limitBytes(bytes, limits.htmlBytesMax), format.encoding)));
      return;
    }
    case "pdf": {
      const { readPdf } = await import("./pdf.ts");
      yield* tidyText(readPdf(await collect(bytes, limits.wholeBytesMax), onPages));
      return;
    }
    case "office": {
      const { readOffice } = await import("./office/office.ts");
      const archive = { entriesMax: limits.archiveEntriesMax, bytesMax: limits.archiveBytesMax };
      yield* tidyText(readOffice(await collect(bytes, limits.wholeBytesMax), filename, archive));
    }
  }
}

async function* limitBytes(bytes: AsyncIterable<Uint8Array>, bytesMax: number): AsyncGenerator<Uint8Array> {
  let length = 0;
  for await (const part of bytes) {
    length += part.length;
    if (length > bytesMax)
      throw invalidFile(`The file is larger than ${bytesMax} bytes, the limit for its format.`);
    yield part;
  }
}

function collect(bytes: AsyncIterable<Uint8Array>, bytesMax: number): Promise<Buffer> {
  return buffer(limitBytes(bytes, bytesMax));
}

async function* limitText(pieces: AsyncIterable<Piece>, bytesMax: number): AsyncGenerator<Piece> {
  let length = 0;
  for await (const piece of pieces) {
    if (typeof piece === "string") length += Buffer.byteLength(piece);
    if (length > bytesMax) throw invalidFile(`The file holds more than ${bytesMax} bytes of text.`);
    yield piece;
  }
}

async function* cutText(pieces: AsyncIterable<Piece>, cutter: Cutter): AsyncGenerator<DocumentChunk> {
  for await (const piece of pieces) {
    if (typeof piece === "string") yield* cutter.push(piece);
    else cutter.mark(piece);
  }
  yield* cutter.finish();
}

async function* batchChunks(chunks: AsyncIterable<DocumentChunk>): AsyncGenerator<DocumentChunk[]> {
  let batch: DocumentChunk[] = [];
  let chars = 0;
  for await (const chunk of chunks) {
    batch.push(chunk);
    chars += chunk.text.length;
    if (batch.length < BATCH_CHUNKS && chars < BATCH_CHARS) continue;
    yield batch;
    [batch, chars] = [[], 0];
  }
  if (batch.length > 0) yield batch;
}
