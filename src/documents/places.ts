/** Where a chunk stands in its file. */
export interface ChunkPlace {
  /** Index of the chunk's first character in the text of the file, from 0, in Unicode code points. */
  start: number;
  /** Index behind the chunk's last character. */
  end: number;
  /** Number of the page on which the chunk begins, from 1; absent: the format has no pages. */
  page?: number;
  /** Number of the page on which the chunk ends. */
  lastPage?: number;
  /** The headings above the chunk's first character, the outermost first; absent: there is none. */
  headings?: string[];
}

/**
 * A mark in a stream of text: from here on another page holds, or another heading of its level and none of the levels
 * below. An empty heading only ends those of its level and below.
 */
export type Mark = { page: number } | { heading: string; level: number };

/** A part of a text, or a mark between two parts. */
export type Piece = string | Mark;

/** Levels of headings, those of HTML and Markdown; deeper ones, which Word has, are no headings. */
export const HEADING_LEVEL_MAX = 6;

/**
 * Characters that are kept of a heading: with the levels this bounds the path that is stored with each chunk, also of a
 * file that is nothing but headings.
 */
const HEADING_CHARS_MAX = 200;

/** Makes the mark of a heading, on one line, without what Postgres rejects in text. */
export function markHeading(text: string, level: number): Mark {
  // Enough for all characters that are kept, where some are surrogate pairs and some are white space.
  const start = text.trimStart().slice(0, 4 * HEADING_CHARS_MAX);
  const clean = start.replaceAll(/[\0\p{Surrogate}]/gu, "").replaceAll(/\s+/g, " ");
  return { heading: Array.from(clean).slice(0, HEADING_CHARS_MAX).join("").trim(), level };
}

/** What holds from an index of the text on. */
interface Position {
  start: number;
  page: number | undefined;
  headings: readonly { text: string; level: number }[];
}

/** Finds the places of chunks from the marks of a text. Chunks are asked for in the order of their starts. */
export class Places {
  /** In the order of the text; the first one holds at the start of the chunk that was asked for last. */
  #positions: Position[] = [{ start: 0, page: undefined, headings: [] }];

  /** Adds a mark that stands at an index of the text, in code points. */
  add(mark: Mark, start: number): void {
    const last = this.#positions.at(-1) as Position;
    const next = { ...last, ...follow(last, mark), start };
    if (last.start === start) this.#positions.pop();
    this.#positions.push(next);
  }

  /** The place of a chunk; all marks before its end must have been added. */
  find(start: number, end: number): ChunkPlace {
    let passed = 0;
    while ((this.#positions[passed + 1]?.start ?? Infinity) <= start) passed++;
    this.#positions.splice(0, passed);
    const [first] = this.#positions as [Position];
    const last = this.#positions.findLast((position) => position.start < end) ?? first;
    const headings = first.headings.map(({ text }) => text);
    return {
      start,
      end,
      ...(first.page !== undefined && { page: first.page, lastPage: last.page ?? first.page }),
      ...(headings.length > 0 && { headings }),
    };
  }
}

function follow({ headings }: Position, mark: Mark): Partial<Position> {
  if ("page" in mark) return { page: mark.page };
  const above = headings.filter(({ level }) => level < mark.level);
  return { headings: mark.heading === "" ? above : [...above, { text: mark.heading, level: mark.level }] };
}

/** Counts the Unicode code points of a text; a lone surrogate counts as one. */
export function countCodePoints(text: string): number {
  let count = text.length;
  for (let i = 1; i < text.length; i++) {
    const isPair = (text.charCodeAt(i) & 0xfc00) === 0xdc00 && (text.charCodeAt(i - 1) & 0xfc00) === 0xd800;
    if (isPair) count--;
  }
  return count;
}
