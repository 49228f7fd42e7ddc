/** A word, or a part of one: a character has one token at most. The space after it belongs to it. */
const WORD = /\S{1,100}\s*/gu;

/** A part of a text that a model reads at once. */
export interface Window {
  text: string;
  /** Tokens of its words. */
  tokens: number;
}

/** Splits a text into windows of at most `tokensMax` tokens. A text without words has none. */
export function splitWindows(
  text: string,
  tokensMax: number,
  countTokens: (word: string) => number,
): Window[] {
  const windows: Window[] = [];
  let window = "";
  let tokens = 0;
  for (const [word] of text.matchAll(WORD)) {
    const more = countTokens(word.trimEnd());
    if (window !== "" && tokens + more > tokensMax) {
      windows.push({ text: window, tokens });
      window = "";
      tokens = 0;
    }
    window += word;
    tokens += more;
  }
  if (window !== "") windows.push({ text: window, tokens });
  return windows;
}
