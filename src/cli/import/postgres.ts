import { Client } from "pg";
import { VECTOR_COLUMNS } from "../load/rows.ts";
import { PAGE_ROWS, type Source } from "./source.ts";

const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Reads the rows of a query on another Postgres through a cursor, in one read-only transaction. A vector of pgvector is
 * text such as `[1,2,3]`, or an array of numbers.
 */
export function openPostgres({ from, query }: { from: string; query: string }): Source {
  const client = new Client({
    connectionString: from,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    application_name: "pgquiver import",
  });
  return { rows: readRows(client, query.trim().replace(/;$/, "")), total: undefined };
}

async function* readRows(client: Client, query: string): Source["rows"] {
  // A connection that breaks while no statement runs: the next statement says so.
  client.on("error", () => {});
  try {
    await client.connect();
    await client.query("begin isolation level repeatable read read only");
    await client.query(`declare rows no scroll cursor for ${query}`);
    for (;;) {
      const { rows } = await client.query<Record<string, unknown>>(`fetch ${PAGE_ROWS} from rows`);
      if (rows.length === 0) return;
      for (const row of rows)
        yield Object.fromEntries(Object.entries(row).map(([name, cell]) => [name, toCell(name, cell)]));
    }
  } finally {
    await client.end();
  }
}

/** pg leaves a type that it does not know as text: pgvector's is an array of JSON. */
function toCell(name: string, cell: unknown): unknown {
  if (!VECTOR_COLUMNS.includes(name) || typeof cell !== "string") return cell;
  try {
    return JSON.parse(cell);
  } catch (cause) {
    throw new Error(`the column ${name} is no vector: ${cell.slice(0, 40)}`, { cause });
  }
}
