import type { Patience } from "../embedder.ts";
import { createQueue } from "../queue.ts";
import type { Sum } from "./messages.ts";
import type { EncoderProcess } from "./process.ts";
import { add } from "./vectors.ts";

/** Characters of a piece of a text, and of a request to the process: up to a quarter of a second of CPU time. */
const REQUEST_CHARS = 2_000;

/** How long a caller may wait for its turn. */
const WAIT_MS = 30_000;

/** Encodes texts of any length: a sum of vectors for each. Throws the signal's reason when it aborts. */
export type Encode = (texts: readonly string[], signal: AbortSignal, patience: Patience) => Promise<Sum[]>;

/** Makes a function that shares a process among callers: each request is small, and callers take turns. */
export function shareProcess(encoder: EncoderProcess): Encode {
  const queue = createQueue(1, WAIT_MS);
  return async (texts, signal, patience) => {
    const sums: (Sum | undefined)[] = texts.map(() => undefined);
    for (const pieces of split(texts)) {
      using _ = await queue(signal, patience);
      signal.throwIfAborted();
      const encoded = await encoder.encode(pieces.map(({ piece }) => piece));
      for (const [place, { index }] of pieces.entries()) {
        const sum = sums[index];
        if (sum === undefined) sums[index] = encoded[place] as Sum;
        else add(sum, encoded[place] as Sum);
      }
    }
    signal.throwIfAborted();
    return sums as Sum[];
  };
}

interface Piece {
  piece: string;
  /** Index of its text. */
  index: number;
}

/** Splits texts into requests. A text may be spread over several, so that long ones do not hold up others. */
function* split(texts: readonly string[]): Generator<Piece[]> {
  let pieces: Piece[] = [];
  let chars = 0;
  for (const [index, text] of texts.entries()) {
    // A text is cut in the same places whatever comes before it: the same text has the same vector.
    for (let start = 0, end = -1; end < text.length; start = end) {
      end = findEnd(text, start);
      if (pieces.length > 0 && chars + end - start > REQUEST_CHARS) {
        yield pieces;
        pieces = [];
        chars = 0;
      }
      pieces.push({ piece: text.slice(start, end), index });
      chars += end - start;
    }
  }
  if (pieces.length > 0) yield pieces;
}

/** The end of a piece: after a space where there is one in its second half. */
function findEnd(text: string, start: number): number {
  const end = start + REQUEST_CHARS;
  if (end >= text.length) return text.length;
  const space = text.lastIndexOf(" ", end - 1);
  if (space >= start + REQUEST_CHARS / 2) return space + 1;
  // Not between the two code units of a character.
  return /[\uD800-\uDBFF]/.test(text[end - 1] as string) ? end + 1 : end;
}
