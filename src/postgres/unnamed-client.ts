import pg from "pg";

/**
 * A connection that names none of its prepared statements. In transaction mode PgBouncer gives every transaction any
 * free backend: a named statement would be prepared twice on one (42P05) and be missing on the next (26000). An
 * unnamed statement is parsed, bound and executed before one Sync, which PgBouncer sends to one backend.
 */
export class UnnamedClient extends pg.Client {
  // `never` stands for all overloads of node-postgres at once, whose arguments are passed on as they are.
  override query(...parameters: never[]): never {
    const [first, ...rest] = parameters as unknown[];
    const isNamed = typeof first === "object" && first !== null && !("submit" in first) && "name" in first;
    const query = isNamed ? { ...first, name: undefined } : first;
    return super.query(...([query, ...rest] as Parameters<pg.Client["query"]>)) as never;
  }
}
