import pg from "pg";

/**
 * Characters of a text that keyword search looks at. A tsvector holds at most 1 MiB (MAXSTRPOS in ts_type.h) and a
 * longer one is an error; the worst of texts, of short words joined by hyphens, takes less than 5 bytes a character.
 */
const TEXT_CHARS_MAX = 100_000;

/** SQL for the words of a text, as the generated column of an own table has them; `language` need not be quoted. */
export function textVector(content: string, language: string): string {
  return `to_tsvector(${pg.escapeLiteral(pg.escapeIdentifier(language))}::regconfig, left(${content}, ${TEXT_CHARS_MAX}))`;
}
