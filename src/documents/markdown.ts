import { markHeading, type Mark, type Piece } from "./places.ts";

/** Longer lines are no headings; bounds what is held back of the text. */
const LINE_CHARS_MAX = 1_000;

/** `## Heading`, with or without closing hashes (an ATX heading). */
const ATX = /^ {0,3}(#{1,6})(?:[ \t](.*))?$/;
/** The line below a heading (a setext heading): of `=` for level 1, of `-` for level 2. */
const UNDERLINE = /^ {0,3}(?:(=+)|-{2,})[ \t]*$/;
/** The line that begins a block of code, with its backticks or tildes. */
const FENCE = /^ {0,3}(`{3,}(?!.*`)|~{3,})/;
/** A line that is no paragraph: indented code, a quotation, an item of a list. */
const NO_PARAGRAPH = /^(?: {4}|\t| {0,3}(?:>|(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)))/;

/**
 * Puts marks before the headings of a Markdown text, as CommonMark has them, except those inside of quotations, lists and
 * HTML, and those of several lines. The text stays as it is. Line ends must be `\n`.
 */
export async function* markHeadings(pieces: AsyncIterable<Piece>): AsyncGenerator<Piece> {
  const finder = new HeadingFinder();
  for await (const piece of pieces) {
    if (typeof piece === "string") yield* finder.push(piece);
    else yield piece;
  }
  yield* finder.finish();
}

class HeadingFinder {
  /** Text from the start of the first line that is not judged yet. */
  #rest = "";
  /** Whether `#rest` begins inside of a line that is too long for a heading. */
  #isInside = false;
  #isFirst = true;
  /** What ends the block of code, or the front matter, that the line is in. */
  #blockEnd: RegExp | undefined;
  /** Whether the line before belongs to a paragraph. */
  #isParagraph = false;
  /** Whether the line is the underline of the heading before it. */
  #isUnderline = false;

  /** Adds text; yields what is known of it. */
  *push(text: string): Generator<Piece> {
    yield* this.#judgeLines(this.#rest + text, false);
  }

  /** Ends the text, and yields the rest of it. */
  *finish(): Generator<Piece> {
    yield* this.#judgeLines(this.#rest, true);
  }

  *#judgeLines(text: string, isEnd: boolean): Generator<Piece> {
    let given = 0;
    let start = 0;
    while (start < text.length) {
      const end = findEnd(text, start, isEnd);
      if (end === undefined) break;
      // A heading may be known by the line below it.
      const nextEnd = findEnd(text, end + 1, isEnd);
      if (nextEnd === undefined && text.length - end <= LINE_CHARS_MAX) break;
      const mark = this.#judge(text.slice(start, end), text.slice(end + 1, nextEnd ?? end + 1));
      if (mark !== undefined) {
        yield text.slice(given, start);
        yield mark;
        given = start;
      }
      start = end + 1;
    }
    if (text.length - start > LINE_CHARS_MAX && findEnd(text, start, isEnd) === undefined) {
      this.#isInside = true;
      start = text.length;
    }
    yield text.slice(given, start);
    this.#rest = text.slice(start);
  }

  /** The mark of a line that is a heading. */
  #judge(line: string, next: string): Mark | undefined {
    const [isFirst, isUnderline] = [this.#isFirst, this.#isUnderline];
    [this.#isFirst, this.#isUnderline] = [false, false];
    if (this.#blockEnd !== undefined) {
      if (this.#blockEnd.test(line.slice(0, LINE_CHARS_MAX))) this.#blockEnd = undefined;
      return undefined;
    }
    const wasParagraph = this.#isParagraph;
    this.#isParagraph = line.trim() !== "" && !isUnderline;
    if (this.#isInside || line.length > LINE_CHARS_MAX) {
      this.#isInside = false;
      return undefined;
    }
    if (isFirst && line.trimEnd() === "---" && next.trim() !== "") {
      this.#beginBlock(/^(?:---|\.\.\.)[ \t]*$/);
      return undefined;
    }
    const fence = FENCE.exec(line)?.[1];
    if (fence !== undefined) {
      this.#beginBlock(new RegExp(`^ {0,3}${fence.charAt(0)}{${fence.length},}[ \\t]*$`));
      return undefined;
    }
    const atx = ATX.exec(line);
    if (atx !== null) {
      this.#isParagraph = false;
      const [, hashes = "", text = ""] = atx;
      return markHeading(text.replace(/(?:^|[ \t])#+[ \t]*$/, ""), hashes.length);
    }
    const underline = wasParagraph || !this.#isParagraph ? null : UNDERLINE.exec(next);
    if (underline === null || NO_PARAGRAPH.test(line)) return undefined;
    this.#isUnderline = true;
    return markHeading(line, underline[1] === undefined ? 2 : 1);
  }

  #beginBlock(end: RegExp): void {
    this.#blockEnd = end;
    this.#isParagraph = false;
  }
}

/** Index of the end of the line that begins at `start`; undefined when the text so far does not have it. */
function findEnd(text: string, start: number, isEnd: boolean): number | undefined {
  const end = text.indexOf("\n", start);
  if (end !== -1) return end;
  return isEnd ? Math.max(start, text.length) : undefined;
}
