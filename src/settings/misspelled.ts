import { variables } from "./variables.ts";

/** Variables of OpenAI's clients that the service does not read, and the variable that was probably meant. */
const FOREIGN: Record<string, string> = {
  OPENAI_BASE_URL: "EMBEDDING__BASE_URL",
  OPENAI_API_BASE: "EMBEDDING__BASE_URL",
};

/** Prefixes with two underscores, which no other program uses. */
const OWN_PREFIX = /^(?:EMBEDDING|DB_FIELDS|DB_TABLES)__/;

/** Maximum edit distance of a misspelling. */
const EDITS_MAX = 2;
/** Minimum length of a misspelled name: two edits turn a short word into another common word. */
const LENGTH_MIN = 8;

/** A variable that is set but not read, and the variable that was probably meant. */
export interface Misspelled {
  name: string;
  meant: string;
}

/** Finds environment variables that are probably misspelled names of the service's variables. */
export function findMisspelled(environment: Record<string, string | undefined>): Misspelled[] {
  const names = Object.keys(variables.shape);
  const isSet = (name: string) => (environment[name] ?? environment[name.toLowerCase()] ?? "") !== "";
  return Object.keys(environment).flatMap((name) => {
    const upper = name.toUpperCase();
    if (names.includes(upper) || environment[name] === "") return [];
    const foreign = FOREIGN[upper];
    if (foreign !== undefined) return isSet(foreign) ? [] : [{ name, meant: foreign }];
    const [nearest] = names
      .map((meant) => ({ name, meant, edits: countEdits(upper, meant) }))
      .toSorted((a, b) => a.edits - b.edits);
    if (nearest === undefined) return [];
    const isNear = upper.length >= LENGTH_MIN && nearest.edits <= EDITS_MAX;
    return isNear || OWN_PREFIX.test(upper) ? [{ name, meant: nearest.meant }] : [];
  });
}

/** The edit distance of two names, counting insertions and deletions; a replacement counts as two. */
function countEdits(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let index = 0; index < from.length; index++) {
    const next = [index + 1];
    for (let column = 1; column <= to.length; column++) {
      const [left, above, diagonal] = [next[column - 1], row[column], row[column - 1]] as [
        number,
        number,
        number,
      ];
      next.push(Math.min(left + 1, above + 1, diagonal + (from[index] === to[column - 1] ? 0 : 2)));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
