/**
 * A cursor of keyset pagination in a list ordered by (created_at, id): the row before or after which a page
 * starts.
 */
export interface Position {
  /**
   * A timestamp in Postgres' text form: a JavaScript Date would drop the microseconds and skip or repeat
   * rows.
   */
  created_at: string;
  id: string;
}

/** A page of a list ordered by (created_at, id). */
export interface KeysetPage {
  rowsMax: number;
  descending: boolean;
  /** Whether to take the last rows of the range instead of the first; they then come in reverse order. */
  backward: boolean;
  /** Exclusive bounds, in the list's order: only rows after `after` and before `before`. */
  after?: Position | undefined;
  before?: Position | undefined;
}

/**
 * Composes the SQL of a page: conditions for WHERE, and ORDER BY with LIMIT as `ending`. `id` is the column
 * that breaks ties between rows created at the same time. Parameter values are pushed onto `params`.
 */
export function composePage(
  page: KeysetPage,
  id: string,
  params: unknown[],
): { conditions: string[]; ending: string } {
  const { after, before, descending } = page;
  const bound = (comparison: string, position: Position | undefined) =>
    position === undefined
      ? []
      : [
          `(created_at, ${id}) ${comparison} ($${params.push(position.created_at)}::timestamptz, $${params.push(position.id)}::text)`,
        ];
  const direction = descending === page.backward ? "asc" : "desc";
  return {
    conditions: [...bound(descending ? "<" : ">", after), ...bound(descending ? ">" : "<", before)],
    ending: `order by created_at ${direction}, ${id} ${direction} limit $${params.push(page.rowsMax)}`,
  };
}
