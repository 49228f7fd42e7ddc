import { countCodePoints, Places, type ChunkPlace, type Mark } from "./places.ts";
import { BORDER, characters, tokens, WordSplitter, type Word } from "./words.ts";

/** Maximum size of a chunk, and its overlap with the next one. */
export interface Chunking {
  /** Unit of the sizes: tokens of cl100k_base, or UTF-16 units. */
  unit: "tokens" | "characters";
  /** 100 to 4,096 tokens, or any positive number of characters. */
  sizeMax: number;
  /** Size of the end of a chunk that the next chunk repeats, approximately; 0 to half of `sizeMax`. */
  overlap: number;
}

/** A part of a file's text, and where it stands. */
export interface DocumentChunk {
  text: string;
  place: ChunkPlace;
}

/** A chunk's end is the best border within this last part of `sizeMax`. */
const END_RANGE = 0.25;
/**
 * The next chunk's start is the best border whose distance from that end is `overlap`, plus or minus this
 * part of it.
 */
const START_RANGE = 0.25;
/**
 * Maximum size of a word as a part of `sizeMax`; longer words are split. Together with the ranges above this
 * guarantees progress: each chunk ends further on than the previous one.
 */
const WORD_RANGE = 0.125;

/**
 * Streaming chunker: cuts a text, pushed piece by piece, into chunks of at most `sizeMax` that overlap by
 * about `overlap`. A chunk is a contiguous part of the text, trimmed; no text is lost except the trimmed
 * white space, and chunks are in order.
 *
 * A chunk ends at the best border within its last quarter: the end of a paragraph, else of a sentence, a
 * line, a word. With `prefersLines` (code, CSV, logs) the end of a line ranks above the end of a sentence.
 */
export class Cutter {
  readonly #chunking: Chunking;
  readonly #prefersLines: boolean;
  readonly #splitter: WordSplitter;
  readonly #size: (text: string) => number;
  readonly #places = new Places();
  /** Words collected for the next chunk. */
  #words: Word[] = [];
  #wordsSize = 0;
  /** How many of these words, at the start, are the overlap with the last chunk. */
  #repeated = 0;

  constructor(chunking: Chunking, prefersLines: boolean) {
    const measure = chunking.unit === "tokens" ? tokens : characters;
    this.#chunking = chunking;
    this.#prefersLines = prefersLines;
    this.#size = measure.size;
    this.#splitter = new WordSplitter(measure, Math.max(1, Math.floor(chunking.sizeMax * WORD_RANGE)));
  }

  /** Adds a mark that stands behind the text so far. */
  mark(mark: Mark): void {
    this.#places.add(mark, this.#splitter.length);
  }

  /** Adds text, and yields the chunks that it completes. */
  *push(text: string): Generator<DocumentChunk> {
    for (const word of this.#splitter.push(text)) yield* this.#take(word);
  }

  /** Ends the text, and yields the remaining chunks. */
  *finish(): Generator<DocumentChunk> {
    for (const word of this.#splitter.finish()) yield* this.#take(word);
    yield* this.#give(this.#words.length);
  }

  *#take(word: Word): Generator<DocumentChunk> {
    this.#add(word);
    while (this.#wordsSize > this.#chunking.sizeMax && this.#words.length > 1) {
      if (this.#words.length === this.#repeated + 1) {
        // The overlap leaves no room for even one new word, which happens only with chunks of a few
        // characters: drop the overlap's first word.
        this.#startAt(1, this.#repeated);
        continue;
      }
      const end = this.#findEnd();
      yield* this.#give(end);
      this.#startAt(this.#findStart(end), end);
    }
  }

  /**
   * Yields the words before `end` as a chunk, unless all words that are new since the last chunk are white
   * space.
   */
  *#give(end: number): Generator<DocumentChunk> {
    const isNew = this.#words.slice(this.#repeated, end).some(({ text }) => text.trim() !== "");
    if (!isNew) return;
    const text = textOf(this.#words.slice(0, end));
    // The first word has no white space before it: see `#add`.
    const start = this.#words[0]?.start ?? 0;
    yield { text, place: this.#places.find(start, start + countCodePoints(text)) };
  }

  /** Adds a word; leading white space of a chunk is trimmed, and its size not counted. */
  #add(word: Word): void {
    let added = word;
    if (this.#words.length === 0 && /^\s/.test(word.text)) {
      const text = word.text.trimStart();
      if (text === "") return;
      const start = word.start + word.text.length - text.length;
      added = { ...word, text, size: this.#size(text), start };
    }
    this.#words.push(added);
    this.#wordsSize += added.size;
  }

  /**
   * Index of the word after the chunk's last one. The last word in `#words` is the first that did not fit.
   */
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

  /** Index of the word with which the next chunk starts, when the current one ends at `end`. */
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

  /** Starts the next chunk with the words from `start` on; those before `end` are the overlap. */
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
