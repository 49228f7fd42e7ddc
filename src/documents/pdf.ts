import { getDocumentProxy } from "unpdf";
import type { Pages } from "./document.ts";
import { invalidFile } from "./error.ts";
import type { Piece } from "./places.ts";

/** A vertical gap of more line heights than this between two lines starts a new paragraph. */
const PARAGRAPH_GAP = 1.8;

/** Extracts the text of a PDF, page by page, each behind its mark. Throws `invalid_file` for a damaged or encrypted PDF. */
export async function* readPdf(bytes: Buffer, onPages: (pages: Pages) => void): AsyncGenerator<Piece> {
  const pdf = await getDocumentProxy(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length), {
    // Log errors only; load no fonts and fetch nothing from outside of the file.
    verbosity: 0,
    useSystemFonts: false,
    disableFontFace: true,
    useWorkerFetch: false,
    enableXfa: false,
  }).catch(refuse);
  for (let number = 1; number <= pdf.numPages; number++) {
    const page = await pdf.getPage(number).catch(refuse);
    const { items } = await page.getTextContent().catch(refuse);
    onPages({ read: number, total: pdf.numPages });
    yield { page: number };
    yield `${joinItems(items)}\n\n`;
    page.cleanup();
  }
}

/** A run of text in a line, as pdf.js yields runs: in reading order. */
interface TextItem {
  str: string;
  hasEOL: boolean;
  height: number;
  /** Affine matrix of six numbers; the last is the distance from the page's lower edge. */
  transform: number[];
}

function joinItems(items: object[]): string {
  let text = "";
  let previous: TextItem | undefined;
  for (const item of items) {
    if (!isTextItem(item)) continue;
    const visible = item.str.trim() !== "";
    if (visible && previous !== undefined && isFarBelow(item, previous)) text += "\n";
    text += item.hasEOL ? `${item.str}\n` : item.str;
    if (visible) previous = item;
  }
  return text;
}

function isTextItem(item: object): item is TextItem {
  return "str" in item;
}

function isFarBelow(item: TextItem, above: TextItem): boolean {
  const gap = (above.transform[5] ?? 0) - (item.transform[5] ?? 0);
  return gap > PARAGRAPH_GAP * Math.max(item.height, above.height);
}

function refuse(error: unknown): never {
  if (error instanceof Error && error.name === "PasswordException") {
    throw invalidFile("The file is protected by a password.", error);
  }
  throw invalidFile("The file is a damaged PDF.", error);
}
