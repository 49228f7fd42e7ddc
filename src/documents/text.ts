import { invalidFile } from "./error.ts";
import type { Piece } from "./places.ts";

/**
 * Decodes bytes as a stream. `encoding` is a label of the WHATWG Encoding standard, such as `utf-8`. Throws
 * `invalid_file` for bytes that are invalid in the encoding.
 */
export async function* decodeText(
  input: AsyncIterable<Uint8Array>,
  encoding: string,
): AsyncGenerator<string> {
  const decoder = new TextDecoder(encoding, { fatal: true });
  try {
    for await (const bytes of input) yield decoder.decode(bytes, { stream: true });
    yield decoder.decode();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw invalidFile(`The file is not valid ${encoding.toUpperCase()} text.`, error);
  }
}

/**
 * A last character that can only be judged with the next piece: a high surrogate, or the CR of a possible CR
 * LF.
 */
const UNDECIDED = /[\r\ud800-\udbff]$/;
/** What Postgres rejects in text: NUL and lone surrogates. */
const FORBIDDEN = /[\0\p{Surrogate}]/gu;

/** Normalizes line ends to `\n`, and removes NUL and lone surrogates, which Postgres rejects. */
export async function* cleanText(pieces: AsyncIterable<Piece>): AsyncGenerator<Piece> {
  let rest = "";
  for await (const piece of pieces) {
    if (typeof piece !== "string") {
      yield clean(rest);
      rest = "";
      yield piece;
      continue;
    }
    const known = rest + piece;
    rest = UNDECIDED.exec(known)?.[0] ?? "";
    yield clean(known.slice(0, known.length - rest.length));
  }
  yield clean(rest);
}

function clean(text: string): string {
  return text.replaceAll(/\r\n?/g, "\n").replaceAll(FORBIDDEN, "");
}

/** Maximum trailing white space held back until the next piece decides whether it is at the end of a line. */
const REST_CHARS_MAX = 64;

/**
 * Removes white space at the ends of lines and around tabs, and collapses runs of empty lines into one. The
 * regular expressions are linear (each character is visited at most twice), so a hostile file cannot cause
 * quadratic time (ReDoS).
 */
export async function* tidyText(pieces: AsyncIterable<Piece>): AsyncGenerator<Piece> {
  let rest = "";
  for await (const piece of pieces) {
    if (typeof piece !== "string") {
      // Before the white space that is held back: chunks begin and end with a visible character.
      yield piece;
      continue;
    }
    const tidy = `${rest}${piece}`
      .replaceAll(
        /([ \t]+)(\n?)/g,
        (_, blanks: string, end: string) => end || (blanks.includes("\t") ? "\t" : blanks),
      )
      .replaceAll(/\n{3,}/g, "\n\n");
    const visible = tidy.trimEnd().length;
    rest = tidy.slice(visible).slice(-REST_CHARS_MAX);
    yield tidy.slice(0, visible);
  }
}
