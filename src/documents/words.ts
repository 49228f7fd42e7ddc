import { countTokens, setMergeCacheSize } from "gpt-tokenizer/encoding/cl100k_base";

/** How good a place for a cut is: the higher, the better. */
export const BORDER = { inside: 0, word: 1, line: 2, sentence: 3, paragraph: 4 } as const;

/** The smallest piece of text a chunk is made of. */
export interface Word {
  /** With the space before it, or white space alone. */
  text: string;
  /** Its length, in the unit of the chunks. */
  size: number;
  /** The border in front of it: a value of BORDER. */
  border: number;
}

/** How a text's length is taken, in the unit of the chunks. */
export interface Measure {
  size: (text: string) => number;
  /** What a text may grow by when its parts are put together: the parts of a word may be merged otherwise. */
  cut: number;
}

/** Characters of a word. Longer ones are cut, since the tokenizer takes the square of a word's length. */
const WORD_CHARS_MAX = 63;

/** UTF-16 units after which nothing matters to where a word ends: two for a character, and three repetitions. */
const LOOKAHEAD = 6 * WORD_CHARS_MAX;

/** What ends sentences in scripts that do without spaces. */
const UNSPACED_ENDS = "。！？｡";

/**
 * How cl100k_base splits a text before it merges bytes (tiktoken_ext/openai_public.py), with a bound on each run, and
 * without the ends of sentences at the start of words.
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

/** The end of a sentence where white space follows, and in scripts that do without. */
const SENTENCE_END = /[.!?…][\p{Pe}\p{Pf}"'*_]*$/u;
const UNSPACED_SENTENCE_END = new RegExp(String.raw`[${UNSPACED_ENDS}][\p{Pe}\p{Pf}"']*$`, "u");

/**
 * Splits a text, given piece by piece, into words of at most `sizeMax`. How the text is cut into pieces makes no
 * difference, and no piece of more than a few hundred characters is kept.
 *
 * The sizes of words in a row add up to at least the size of their text: words end where the tokenizer's do, and
 * for a longer one that had to be cut a token is added at each cut.
 */
export class WordSplitter {
  readonly #measure: Measure;
  readonly #sizeMax: number;
  /** The text not yet split. */
  #rest = "";
  #end: WordEnd = { newlines: 2, isSpaced: true, sentence: "no" };

  constructor(measure: Measure, sizeMax: number) {
    this.#measure = measure;
    this.#sizeMax = sizeMax;
  }

  /** The words that are certain once this text is known. */
  *push(text: string): Generator<Word> {
    this.#rest += text;
    yield* this.#split(this.#rest.length - LOOKAHEAD);
  }

  /** The last words. */
  *finish(): Generator<Word> {
    yield* this.#split(this.#rest.length);
  }

  /** The words that start before `limit`. */
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
      yield* this.#cut({ text, size: this.#measure.size(text) + cut, border });
    }
    this.#rest = this.#rest.slice(start);
  }

  /** A word in halves, until they are small enough. */
  *#cut(word: Word): Generator<Word> {
    const characters = word.size > this.#sizeMax ? Array.from(word.text) : [];
    if (characters.length < 2) {
      yield word;
      return;
    }
    const half = characters.length >> 1;
    const [head, tail] = [characters.slice(0, half).join(""), characters.slice(half).join("")];
    const { size, cut } = this.#measure;
    yield* this.#cut({ text: head, size: size(head), border: word.border });
    yield* this.#cut({ text: tail, size: size(tail) + cut, border: BORDER.inside });
  }
}

/** What the end of a word says of the border behind it. */
interface WordEnd {
  /** Line ends since the last character that is not white space. */
  newlines: number;
  isSpaced: boolean;
  /** Whether a sentence ends, for certain or if white space follows. */
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

/** Line ends from `start` on. The end of a page counts as two. */
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

/** Sizes of short words, which are most of them. The tokenizer's own cache would keep the whole text each word is of. */
const sizes = new Map<string, number>();
const SIZES_MAX = 50_000;
/** From this length on V8 gives a part of a string as a reference to the whole. */
const SHARED_CHARS_MIN = 13;

setMergeCacheSize(0);

/** Tokens of cl100k_base. Text that looks like a special token is text. */
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

/** UTF-16 units, as JavaScript counts. */
export const characters: Measure = { size: (text) => text.length, cut: 0 };
