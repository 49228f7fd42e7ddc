import { countTokens, setMergeCacheSize } from "gpt-tokenizer/encoding/cl100k_base";
import { countCodePoints } from "./places.ts";

/** Rank of a border between two words as a place to cut: higher is better. */
export const BORDER = { inside: 0, word: 1, line: 2, sentence: 3, paragraph: 4 } as const;

/** The unit a chunk is made of. */
export interface Word {
  /** A word with the space before it, or white space alone. */
  text: string;
  /** Size of the text in the unit of the chunks. */
  size: number;
  /** Rank of the border before the word: a value of BORDER. */
  border: number;
  /** Index of its first character in the text, in code points. */
  start: number;
}

/** Measures text in the unit of the chunks. */
export interface Measure {
  size: (text: string) => number;
  /**
   * Added to the size of a part of a split word: BPE may merge the bytes of a whole word differently from
   * those of its parts, so the whole may have more tokens than the parts' sum.
   */
  cut: number;
}

/**
 * Maximum characters of a word; longer runs are split, because BPE tokenization is quadratic in a word's
 * length.
 */
const WORD_CHARS_MAX = 63;

/**
 * UTF-16 units of text after a word's start that can influence where the word ends: at most three bounded
 * repetitions in WORD, of characters of up to two units each.
 */
const LOOKAHEAD = 6 * WORD_CHARS_MAX;

/** Characters that end sentences in scripts without spaces between words. */
const UNSPACED_ENDS = "。！？｡";

/**
 * The pre-tokenization pattern of cl100k_base (tiktoken_ext/openai_public.py), with two changes: each
 * repetition is bounded, and a word does not start with the sentence end of a script without spaces.
 */
const WORD = new RegExp(
  [
    String.raw`'(?:[sdmt]|ll|ve|re)`,
    String.raw`[^\r\n\p{L}\p{N}${UNSPACED_ENDS}]?\p{L}{1,${WORD_CHARS_MAX}}`,
    String.raw`\p{N}{1,3}`,
    String.raw` ?[^\s\p{L}\p{N}]{1,${WORD_CHARS_MAX}}[\r\n]{0,${WORD_CHARS_MAX}}`,
    String.raw`\s{0,${WORD_CHARS_MAX}}[\r\n]`,
    String.raw`\s{1,${WORD_CHARS_MAX}}(?!\S)`,
    String.raw`\s`,
  ].join("|"),
  "giu",
);

/** The end of a sentence, if white space follows; and in scripts without spaces, unconditionally. */
const SENTENCE_END = /[.!?…][\p{Pe}\p{Pf}"'*_]*$/u;
const UNSPACED_SENTENCE_END = new RegExp(String.raw`[${UNSPACED_ENDS}][\p{Pe}\p{Pf}"']*$`, "u");

/**
 * Streaming splitter: splits a text, pushed piece by piece, into words of at most `sizeMax`. The result does
 * not depend on how the text is divided into pieces; at most a few hundred characters are buffered.
 *
 * Invariant: the sizes of consecutive words add up to at least the size of their joined text, so a chunk
 * never exceeds its limit. Words end where the tokenizer's pre-tokens end, and each cut inside a longer run
 * adds a token (`Measure.cut`).
 */
export class WordSplitter {
  readonly #measure: Measure;
  readonly #sizeMax: number;
  /** Buffered text that is not split yet. */
  #rest = "";
  /** Index of `#rest` in the text, in code points. */
  #start = 0;
  #end: WordEnd = { newlines: 2, isSpaced: true, sentence: "no" };

  constructor(measure: Measure, sizeMax: number) {
    this.#measure = measure;
    this.#sizeMax = sizeMax;
  }

  /** Code points of all text so far. */
  get length(): number {
    return this.#start + countCodePoints(this.#rest);
  }

  /** Adds text, and yields the words that later text can no longer change. */
  *push(text: string): Generator<Word> {
    this.#rest += text;
    yield* this.#split(this.#rest.length - LOOKAHEAD);
  }

  /** Ends the text, and yields the remaining words. */
  *finish(): Generator<Word> {
    yield* this.#split(this.#rest.length);
  }

  /** Yields the words that start before the index `limit` of the buffer. */
  *#split(limit: number): Generator<Word> {
    let start = 0;
    while (start < limit) {
      WORD.lastIndex = start;
      const text = WORD.exec(this.#rest)?.[0] ?? "";
      start += text.length;
      const border = borderBetween(this.#end, text);
      this.#end = endOf(text, this.#end);
      const isWhole = text.length < WORD_CHARS_MAX && !UNSPACED_ENDS.includes(text.charAt(0));
      const cut = isWhole ? 0 : this.#measure.cut;
      yield* this.#cut({ text, size: this.#measure.size(text) + cut, border, start: this.#start });
      this.#start += countCodePoints(text);
    }
    this.#rest = this.#rest.slice(start);
  }

  /** Halves a word recursively until each part is at most `sizeMax`; never inside a surrogate pair. */
  *#cut(word: Word): Generator<Word> {
    const characters = word.size > this.#sizeMax ? Array.from(word.text) : [];
    if (characters.length < 2) {
      yield word;
      return;
    }
    const half = characters.length >> 1;
    const [head, tail] = [characters.slice(0, half).join(""), characters.slice(half).join("")];
    const { size, cut } = this.#measure;
    yield* this.#cut({ text: head, size: size(head), border: word.border, start: word.start });
    yield* this.#cut({
      text: tail,
      size: size(tail) + cut,
      border: BORDER.inside,
      start: word.start + half,
    });
  }
}

/** Properties of a word's end that decide the border after the word. */
interface WordEnd {
  /** Newlines since the last character that is not white space. */
  newlines: number;
  /** Whether the word ends in white space. */
  isSpaced: boolean;
  /** Whether a sentence ends here: unconditionally, or if white space follows. */
  sentence: "yes" | "if spaced" | "no";
}

const LETTER: WordEnd = { newlines: 0, isSpaced: false, sentence: "no" };

function endOf(text: string, before: WordEnd): WordEnd {
  const last = text.charCodeAt(text.length - 1) | 0x20;
  if (last >= 0x61 && last <= 0x7a) return LETTER;
  const visible = text.trimEnd();
  const newlines = countNewlines(text, visible.length);
  if (visible === "") return { ...before, newlines: before.newlines + newlines, isSpaced: true };
  const isSpaced = visible.length < text.length;
  if (UNSPACED_SENTENCE_END.test(visible)) return { newlines, isSpaced, sentence: "yes" };
  return { newlines, isSpaced, sentence: SENTENCE_END.test(visible) ? "if spaced" : "no" };
}

/** Counts newlines from `start` on; a form feed (end of a page) counts as two, which makes a paragraph. */
function countNewlines(text: string, start: number): number {
  let count = 0;
  for (let i = start; i < text.length; i++) {
    if (text[i] === "\n") count++;
    else if (text[i] === "\f") count += 2;
  }
  return count;
}

function borderBetween(end: WordEnd, text: string): number {
  if (end.newlines > 1) return BORDER.paragraph;
  const isSpaced = end.isSpaced || /^\s/.test(text);
  if (end.sentence === "yes" || (end.sentence === "if spaced" && isSpaced)) return BORDER.sentence;
  if (end.newlines > 0) return BORDER.line;
  return isSpaced ? BORDER.word : BORDER.inside;
}

/**
 * Cache of token counts of short words, which are most words; emptied when full. Replaces the tokenizer's own
 * cache, whose keys are sliced strings: each would keep the whole text alive that its word was cut from.
 */
const sizes = new Map<string, number>();
const SIZES_MAX = 50_000;
/**
 * V8 represents substrings of at least this length as sliced strings, which reference their parent string.
 */
const SHARED_CHARS_MIN = 13;

setMergeCacheSize(0);

/**
 * Counts tokens of cl100k_base. Special tokens such as `<|endoftext|>` in a text are counted as plain text.
 */
export const tokens: Measure = {
  size: (text) => {
    if (text.length >= SHARED_CHARS_MIN) return countTokens(text, ANY_TEXT);
    let size = sizes.get(text);
    if (size === undefined) {
      if (sizes.size >= SIZES_MAX) sizes.clear();
      size = countTokens(text, ANY_TEXT);
      sizes.set(text, size);
    }
    return size;
  },
  cut: 1,
};

const ANY_TEXT = { disallowedSpecial: new Set<string>() };

/** Counts UTF-16 units (`String.length`). */
export const characters: Measure = { size: (text) => text.length, cut: 0 };
