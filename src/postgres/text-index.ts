import pg from "pg";

/**
 * Keyword search indexes this many characters from the start of a text. A tsvector larger than 1 MiB is an
 * error (MAXSTRPOS in ts_type.h) and would make the row impossible to store; in the worst case, short words
 * joined by hyphens, a character takes less than 5 bytes of tsvector.
 */
const TEXT_CHARS_MAX = 100_000;

/**
 * SQL expression for the tsvector of a text, the same as in an own table's generated column. `content` is a
 * quoted identifier; `language`, the name of a text search configuration, is quoted here.
 */
export function textVector(content: string, language: string): string {
  return `to_tsvector(${pg.escapeLiteral(pg.escapeIdentifier(language))}::regconfig, left(${content}, ${TEXT_CHARS_MAX}))`;
}

/**
 * SQL expression of a hash of a text, the column `content`, and of the text search configuration that splits it: cached words
 * are those of the text only while the hashes are equal.
 */
export function hashText(content: string, language: string): string {
  return `hashtextextended(${content}, hashtextextended(${pg.escapeLiteral(language)}, 0))`;
}
