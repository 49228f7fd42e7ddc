/**
 * Whether Postgres can store a text. Postgres rejects NUL (U+0000) in `text` and `jsonb`, in query parameters
 * as well: an id that contains NUL matches no row, and a query for such an id must not be sent.
 */
export function isStorable(text: string): boolean {
  return !text.includes("\0");
}
