import { isAscii } from "node:buffer";
import { extname } from "node:path";
import { invalidFile, unsupportedFile } from "./error.ts";

/** A file's format, which decides how its text is extracted. */
export type Format =
  | { kind: "text"; encoding: string; prefersLines: boolean; isDenseJson: boolean; isMarkdown: boolean }
  | { kind: "html"; encoding: string }
  | { kind: "pdf" | "office" };

/** Bytes from the start of a file that format detection looks at. */
export const HEAD_BYTES = 4096;

/**
 * Magic numbers of binary formats: offset, bytes (as Latin-1), name for the error message. They count only in
 * a file that is not valid text or contains control characters, since a text may begin with the same letters
 * ("BZh", "ID3").
 */
const BINARIES: [number, string, string][] = [
  [0, "\x89PNG", "a PNG image"],
  [0, "\xff\xd8\xff", "a JPEG image"],
  [0, "GIF8", "a GIF image"],
  [8, "WEBP", "a WebP image"],
  [0, "II*\0", "a TIFF image"],
  [0, "MM\0*", "a TIFF image"],
  [0, "\0\0\x01\0", "an icon"],
  [4, "ftyp", "a video or a HEIF image"],
  [8, "WAVE", "a WAV sound"],
  [8, "AVI ", "an AVI video"],
  [0, "\x1aE\xdf\xa3", "a Matroska or WebM video"],
  [0, "ID3", "an MP3 sound"],
  [0, "\xff\xfb", "an MP3 sound"],
  [0, "OggS", "an Ogg sound or video"],
  [0, "fLaC", "a FLAC sound"],
  [0, "\x1f\x8b", "a gzip archive"],
  [0, "BZh", "a bzip2 archive"],
  [0, "\xfd7zXZ\0", "an xz archive"],
  [0, "\x28\xb5\x2f\xfd", "a Zstandard archive"],
  [0, "7z\xbc\xaf\x27\x1c", "a 7-Zip archive"],
  [0, "Rar!\x1a", "a RAR archive"],
  [257, "ustar", "a tar archive"],
  [0, "\x7fELF", "an executable program"],
  [0, "\xcf\xfa\xed\xfe", "an executable program"],
  [0, "\xca\xfe\xba\xbe", "an executable program"],
  [0, "MZ\x90", "an executable program"],
  [0, "\0asm", "a WebAssembly program"],
  [0, "SQLite format 3\0", "an SQLite database"],
  [0, "PAR1", "a Parquet table"],
  [0, "wOF", "a font"],
  [0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of an Office before 2007"],
];

/** First characters of markup that is text but not readable without an interpreter. */
const CODED: [string, string][] = [
  ["{\\rtf", "an RTF document"],
  ["%!PS", "a PostScript document"],
];

const OFFICE = new Set([".docx", ".docm", ".pptx", ".pptm", ".xlsx", ".xlsm"]);
const HTML = new Set([".html", ".htm", ".xhtml"]);
const MARKDOWN = new Set([".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd"]);
/**
 * Extensions of line-oriented text (data, code, logs), cut at lines rather than at sentences. Other text is
 * prose.
 */
const LINES = new Set(
  (
    ".csv .tsv .log .json .jsonl .ndjson .xml .yaml .yml .toml .ini .conf .properties .env .sql .sh .bash .ps1 .bat " +
    ".c .h .cc .cpp .hpp .cs .css .dart .ex .go .graphql .hs .java .js .jsx .kt .lua .m .mjs .php .pl .proto .py .r " +
    ".rb .rs .scala .scss .swift .tf .ts .tsx .vue .zig"
  ).split(" "),
);

/** The start of an HTML page, possibly after comments. */
const HTML_START = /^\s*(?:<!--(?:(?!-->)[^])*-->\s*)*<(?:!doctype html|html)\b/i;

/** Share of control characters above which a file is binary: for valid UTF-8, and for anything else. */
const CONTROLS_MAX = 0.1;
const CONTROLS_MAX_INVALID = 0.02;

/**
 * Detects a file's format from its first bytes, and from its name where the bytes are ambiguous. Throws
 * `unsupported_file` for a format without text, and `invalid_file` when the content contradicts the name or
 * the encoding is unknown.
 */
export function detectFormat(head: Buffer, filename: string): Format {
  const extension = extname(filename).toLowerCase();
  const latin1 = head.toString("latin1");
  if (latin1.startsWith("%PDF-") || (extension === ".pdf" && latin1.slice(0, 1024).includes("%PDF-"))) {
    return { kind: "pdf" };
  }
  if (latin1.startsWith("PK\x03\x04") || latin1.startsWith("PK\x05\x06")) return { kind: "office" };
  if (latin1.startsWith("\xd0\xcf\x11\xe0") && OFFICE.has(extension)) {
    throw invalidFile("The file is protected by a password.");
  }
  const encoding = detectEncoding(head);
  const isBinary = encoding === undefined || shareOfControls(latin1) > 0;
  const what =
    BINARIES.find(([offset, bytes]) => isBinary && latin1.startsWith(bytes, offset))?.[2] ??
    CODED.find(([start]) => latin1.startsWith(start))?.[1];
  if (what !== undefined) throw unsupportedFile(`The file is ${what}, which cannot be read as text.`);
  const text = encoding === undefined ? latin1 : new TextDecoder(encoding).decode(head, { stream: true });
  if (HTML.has(extension) || HTML_START.test(text)) {
    const declared = encoding === undefined || isAscii(head) ? declaredEncoding(text) : undefined;
    return { kind: "html", encoding: declared ?? encoding ?? refuse(latin1, extension) };
  }
  if (encoding === undefined) return refuse(latin1, extension);
  if (encoding === "utf-8" && shareOfControls(text) > CONTROLS_MAX) refuse(latin1, extension);
  return {
    kind: "text",
    encoding,
    prefersLines: LINES.has(extension),
    isDenseJson: extension === ".json" && !text.trim().includes("\n"),
    isMarkdown: MARKDOWN.has(extension),
  };
}

/** Throws the error for a file that is not text, as specific as its name and its bytes allow. */
function refuse(latin1: string, extension: string): never {
  if (extension === ".pdf") throw invalidFile("The file is named as a PDF, but is not one.");
  if (OFFICE.has(extension)) throw invalidFile("The file is named as an Office document, but is not one.");
  if (shareOfControls(latin1) > CONTROLS_MAX_INVALID) {
    throw unsupportedFile("The file holds binary data of an unknown kind.");
  }
  throw invalidFile("The file is text in an encoding other than UTF-8 and UTF-16. Save it as UTF-8.");
}

/**
 * Detects UTF-16 by its byte order mark, or by zero bytes at only even or only odd offsets (the high bytes of
 * Latin letters); else UTF-8 if the bytes are valid; else undefined.
 */
function detectEncoding(head: Buffer): string | undefined {
  if (head[0] === 0xff && head[1] === 0xfe) return "utf-16le";
  if (head[0] === 0xfe && head[1] === 0xff) return "utf-16be";
  const zeros = [0, 0];
  for (const [i, byte] of head.entries()) if (byte === 0) zeros[i % 2] = (zeros[i % 2] ?? 0) + 1;
  const [even = 0, odd = 0] = zeros;
  if (odd > head.length / 4 && even === 0) return "utf-16le";
  if (even > head.length / 4 && odd === 0) return "utf-16be";
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(head, { stream: true });
    return "utf-8";
  } catch {
    return undefined;
  }
}

/**
 * The encoding that a page declares in a meta tag; undefined when it is missing, unknown, or a form of
 * Unicode.
 */
function declaredEncoding(html: string): string | undefined {
  const label = /<meta\s[^>]*charset\s*=\s*["']?\s*([\w-]+)/i.exec(html.slice(0, 1024))?.[1];
  try {
    const { encoding } = new TextDecoder(label);
    return encoding.startsWith("utf") ? undefined : encoding;
  } catch {
    return undefined;
  }
}

/** The share, 0 to 1, of control characters other than white space and ESC (terminal colours in logs). */
function shareOfControls(text: string): number {
  let controls = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code < 0x20 && !(code >= 0x09 && code <= 0x0d) && code !== 0x1b) controls++;
  }
  return controls / text.length;
}
