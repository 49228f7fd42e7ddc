import pg from "pg";

/** What node-postgres' Query does with the connection and its messages, which its types leave out. */
interface QueryInternals {
  text: string;
  name: string | undefined;
  callback: (error: Error | null, result: pg.QueryResult) => void;
  submit(connection: pg.Connection): Error | null;
  handleDataRow(message: unknown): void;
  handleCommandComplete(message: unknown, connection: pg.Connection): void;
  handleError(error: Error, connection: pg.Connection): void;
}

/** A query of node-postgres in the extended protocol, to be extended by what is sent before it. */
export const ExtendedQuery = pg.Query as unknown as new (
  config: pg.QueryConfig & { queryMode: "extended" },
) => QueryInternals;
