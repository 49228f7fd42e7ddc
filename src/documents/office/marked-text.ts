import { markHeading, type Piece } from "../places.ts";

/** Longer paragraphs are no headings; bounds what is held back of a text. */
const HEADING_HELD_MAX = 10_000;

/**
 * The text that a visitor extracts, with marks before its headings. A heading is held back until its end is known, since
 * the mark has its whole text.
 */
export class MarkedText {
  #pieces: Piece[] = [];
  #text = "";
  /** Index in `#text` of what may be a heading, and its level; 0: it is none. */
  #start = 0;
  #level = 0;

  append(text: string): void {
    this.#text += text;
  }

  /** Begins what may be a heading. */
  begin(): void {
    this.#start = this.#text.length;
    this.#level = 0;
  }

  /** Says what was begun last: a heading of this level, or with level 0 none. */
  setLevel(level: number): void {
    this.#level = level;
  }

  /** Ends what was begun last. */
  end(): void {
    if (this.#level === 0) return;
    const heading = this.#text.slice(this.#start);
    if (heading.trim() !== "") {
      this.#pieces.push(this.#text.slice(0, this.#start), markHeading(heading, this.#level), heading);
      this.#text = "";
    }
    this.begin();
  }

  /** Returns the text extracted since the last call, as far as it is known where its marks stand. */
  take(): Piece[] {
    if (this.#text.length - this.#start > HEADING_HELD_MAX) this.#level = 0;
    const end = this.#level > 0 ? this.#start : this.#text.length;
    const taken = [...this.#pieces, this.#text.slice(0, end)];
    this.#pieces = [];
    this.#text = this.#text.slice(end);
    this.#start = 0;
    return taken;
  }
}
