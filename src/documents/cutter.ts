import { BORDER, characters, tokens, WordSplitter, type Word } from "./words.ts";

/** How long a chunk may be, and how much of it the next one repeats. */
export interface Chunking {
  /** Tokens of cl100k_base, or UTF-16 units. */
  unit: "tokens" | "characters";
  /** 100 to 4,096 tokens, or any positive number of characters. */
  sizeMax: number;
  /** 0 to half of `sizeMax`. */
  overlap: number;
}

/** The part of a chunk, at its end, in which the best border is looked for. */
const END_RANGE = 0.25;
/** The same around the start of the next chunk, as a part of the overlap. */
const START_RANGE = 0.25;
/** What a word may take of a chunk. With the ranges above, each chunk ends further on than the one before. */
const WORD_RANGE = 0.125;

/**
 * Cuts a text, given piece by piece, into chunks of at most `sizeMax` that overlap by about `overlap`. A chunk is
 * a part of the text without the white space around it; all else is in some chunk, in order.
 *
 * A chunk ends where a paragraph does, or else a sentence, a line or a word, as far as one ends in its last
 * quarter; with `prefersLines` a line counts for more than a sentence.
 */
export class Cutter {
  readonly #chunking: Chunking;
  readonly #prefersLines: boolean;
  readonly #splitter: WordSplitter;
  readonly #size: (text: string) => number;
  /** The words of the next chunk, so far. */
  #words: Word[] = [];
  #wordsSize = 0;
  /** How many of them the last chunk had too. */
  #repeated = 0;

  constructor(chunking: Chunking, prefersLines: boolean) {
    const measure = chunking.unit === "tokens" ? tokens : characters;
    this.#chunking = chunking;
    this.#prefersLines = prefersLines;
    this.#size = measure.size;
    this.#splitter = new WordSplitter(measure, Math.max(1, Math.floor(chunking.sizeMax * WORD_RANGE)));
  }

  /** The chunks that are complete once this text is known. */
  *push(text: string): Generator<string> {
    for (const word of this.#splitter.push(text)) yield* this.#take(word);
  }

  /** The last chunks. */
  *finish(): Generator<string> {
    for (const word of this.#splitter.finish()) yield* this.#take(word);
    yield* this.#give(this.#words.length);
  }

  *#take(word: Word): Generator<string> {
    this.#add(word);
    while (this.#wordsSize > this.#chunking.sizeMax && this.#words.length > 1) {
      if (this.#words.length === this.#repeated + 1) {
        // A word that needs the room of what is repeated: for chunks of a few characters only.
        this.#startAt(1, this.#repeated);
        continue;
      }
      const end = this.#findEnd();
      yield* this.#give(end);
      this.#startAt(this.#findStart(end), end);
    }
  }

  /** The words before `end`, unless all that was not in the chunk before is white space. */
  *#give(end: number): Generator<string> {
    const isNew = this.#words.slice(this.#repeated, end).some(({ text }) => text.trim() !== "");
    if (isNew) yield textOf(this.#words.slice(0, end));
  }

  /** White space in front of a chunk is left out, and so is the space of its first word. */
  #add(word: Word): void {
    let added = word;
    if (this.#words.length === 0 && /^\s/.test(word.text)) {
      const text = word.text.trimStart();
      if (text === "") return;
      added = { ...word, text, size: this.#size(text) };
    }
    this.#words.push(added);
    this.#wordsSize += added.size;
  }

  /** Where the chunk ends, of which the last word is the first that does not fit. */
  #findEnd(): number {
    const { sizeMax } = this.#chunking;
    let best = this.#words.length - 1;
    let size = this.#wordsSize;
    for (let end = best; end > this.#repeated; end--) {
      size -= this.#words[end]?.size ?? 0;
      if (size < sizeMax * (1 - END_RANGE)) break;
      if (this.#rank(end) > this.#rank(best)) best = end;
    }
    return best;
  }

  /** Where the chunk after one that ends at `end` starts. */
  #findStart(end: number): number {
    const { overlap } = this.#chunking;
    let best = end;
    let bestRank = -1;
    let bestDistance = Infinity;
    let size = 0;
    for (let start = end - 1; start > 0; start--) {
      size += this.#words[start]?.size ?? 0;
      if (size > overlap * (1 + START_RANGE)) break;
      const [rank, distance] = [this.#rank(start), Math.abs(size - overlap)];
      if (size < overlap * (1 - START_RANGE)) {
        best = start;
      } else if (rank > bestRank || (rank === bestRank && distance < bestDistance)) {
        [best, bestRank, bestDistance] = [start, rank, distance];
      }
    }
    return best;
  }

  #rank(i: number): number {
    const border = this.#words[i]?.border ?? BORDER.inside;
    return this.#prefersLines && border === BORDER.line ? BORDER.sentence + 0.5 : border;
  }

  /** Goes on with the words from `start` on, of which those before `end` have been in a chunk. */
  #startAt(start: number, end: number): void {
    const words = this.#words;
    this.#words = [];
    this.#wordsSize = 0;
    for (let i = start; i < words.length; i++) {
      if (i === end) this.#repeated = this.#words.length;
      const word = words[i];
      if (word !== undefined) this.#add(word);
    }
  }
}

function textOf(words: Word[]): string {
  return words
    .map(({ text }) => text)
    .join("")
    .trim();
}
