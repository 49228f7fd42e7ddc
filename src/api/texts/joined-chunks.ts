/**
 * Least number of characters that count as the overlap of two chunks: fewer may be equal by chance, and would be lost.
 */
const OVERLAP_MIN = 16;

/** Joins the chunks of a file to its text: what the end of a chunk and the start of the next have in common stands once. */
export function joinChunks(chunks: readonly string[]): string {
  let text = chunks[0] ?? "";
  for (let index = 1; index < chunks.length; index++) {
    const next = chunks[index] as string;
    const overlap = overlapOf(chunks[index - 1] as string, next);
    text += overlap < OVERLAP_MIN ? `\n${next}` : next.slice(overlap);
  }
  return text;
}

/** Length of the longest start of `next` that is an end of `previous`, by the prefix function of Knuth, Morris and Pratt. */
function overlapOf(previous: string, next: string): number {
  const borders = new Uint32Array(next.length);
  for (let index = 1; index < next.length; index++)
    borders[index] = advance(next, borders, borders[index - 1] as number, next.charCodeAt(index));
  let length = 0;
  for (let index = Math.max(0, previous.length - next.length); index < previous.length; index++) {
    if (length === next.length) length = borders[length - 1] ?? 0;
    length = advance(next, borders, length, previous.charCodeAt(index));
  }
  return length;
}

/** The length of the match after one more character, from the longest match before. */
function advance(text: string, borders: Uint32Array, matched: number, character: number): number {
  let length = matched;
  while (length > 0 && text.charCodeAt(length) !== character) length = borders[length - 1] as number;
  return text.charCodeAt(length) === character ? length + 1 : 0;
}
