/** Where a list in order of (created_at, id) goes on: after this position in the direction of walking. */
export interface Position {
  /** A timestamp as Postgres writes it, which keeps its microseconds. */
  created_at: string;
  id: string;
}

/** A page of a list in order of (created_at, id). */
export interface KeysetPage {
  rowsMax: number;
  descending: boolean;
  /** Whether to walk from the list's end. */
  backward: boolean;
  /** Only what comes strictly after this position in the list's order, and before that one. */
  after?: Position | undefined;
  before?: Position | undefined;
}

/**
 * SQL of a page: the conditions that its rows must meet, and the clauses at the statement's end. `id` is the column
 * that tells apart what was created at the same time. Values are pushed onto `params`.
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
