/** The name by which searches ask for the stand-in. */
export const STAND_IN = "stand-in";

/** Characters of the pieces of words that are compared. */
const PIECE = 4;

/**
 * Scores documents as a stand-in for a reranking model. It knows no meaning: a document's score is the share of the query's words
 * that it has, each at its best likeness, rare ones more. Its purpose is to show what the stage does and takes.
 */
export function rank(query: string, documents: readonly string[]): number[] {
  const texts = documents.map((text) => [...new Set(wordsOf(text))]);
  const likeness = [...new Set(wordsOf(query))].map((word) => {
    const pieces = piecesOf(word);
    // Most words are in many documents.
    const known = new Map<string, number>();
    const compareTo = (other: string) => {
      const found = known.get(other) ?? compare(pieces, piecesOf(other));
      known.set(other, found);
      return found;
    };
    const best = texts.map((words) => Math.max(0, ...words.map(compareTo)));
    const found = best.reduce((sum, one) => sum + one, 0);
    return { best, weight: Math.log(1 + documents.length / (1 + found)) };
  });
  const total = likeness.reduce((sum, { weight }) => sum + weight, 0) || 1;
  return documents.map(
    (_, index) => likeness.reduce((sum, { best, weight }) => sum + (best[index] ?? 0) * weight, 0) / total,
  );
}

function wordsOf(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
}

function piecesOf(word: string): Set<string> {
  const marked = `^${word}$`;
  const count = Math.max(1, marked.length - PIECE + 1);
  return new Set(Array.from({ length: count }, (_, start) => marked.slice(start, start + PIECE)));
}

/** The share of the pieces of two words that both have (Jaccard). */
function compare(one: ReadonlySet<string>, other: ReadonlySet<string>): number {
  const common = [...one].filter((piece) => other.has(piece)).length;
  return common / (one.size + other.size - common);
}
