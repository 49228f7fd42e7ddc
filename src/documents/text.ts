import { invalidFile } from "./error.ts";

/** The characters of bytes in an encoding named as in the web's Encoding standard, such as `utf-8`. */
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

/** Splits what later text decides about off the end: half a surrogate pair, or half a line end. */
const UNDECIDED = /[\r\ud800-\udbff]$/;
/** What Postgres does not take as text: NUL, and halves of surrogate pairs. */
const FORBIDDEN = /[\0\p{Surrogate}]/gu;

/** The same text with `\n` as line end and without what Postgres refuses. */
export async function* cleanText(texts: AsyncIterable<string>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of texts) {
    const known = rest + text;
    rest = UNDECIDED.exec(known)?.[0] ?? "";
    yield clean(known.slice(0, known.length - rest.length));
  }
  yield clean(rest);
}

function clean(text: string): string {
  return text.replaceAll(/\r\n?/g, "\n").replaceAll(FORBIDDEN, "");
}

/** White space that is kept at the end of what is known, until more is. */
const REST_CHARS_MAX = 64;

/**
 * The same text without white space at the ends of lines and before tabs, and with one empty line in a row at most.
 * No expression here looks at a character more than twice, however the file was made.
 */
export async function* tidyText(texts: AsyncIterable<string>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of texts) {
    const tidy = `${rest}${text}`
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
