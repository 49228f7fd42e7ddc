/**
 * Whether Postgres can hold a text. Postgres refuses NUL (U+0000) in `text` and `jsonb`, even as a parameter of a
 * search for an id, so that no row can have such an id.
 */
export function isStorable(text: string): boolean {
  return !text.includes("\0");
}
