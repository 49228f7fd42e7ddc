import { execFileSync } from "node:child_process";
import { join } from "node:path";
import pg from "pg";

/** A database of a benchmark's own, dropped when disposed of, with the Postgres it is in where that was started for it. */
export interface BenchDatabase extends AsyncDisposable {
  url: string;
  /** Such as "PostgreSQL 17.11, pgvector 0.8.0". */
  version: string;
  /** As many connections as the service has by default, with these settings of the session. Closed with the database. */
  openPool(settings?: Record<string, string | number>): pg.Pool;
}

/** The default of `DATABASE_POOL_MAX`. */
const CONNECTIONS = 10;

/**
 * Creates an empty database with pgvector on the server named by BENCH_DATABASE_URL or TEST_DATABASE_URL, else
 * on one that scripts/native-postgres.sh starts.
 */
export async function createDatabase(): Promise<BenchDatabase> {
  const given = process.env["BENCH_DATABASE_URL"] ?? process.env["TEST_DATABASE_URL"];
  const server = given ?? runNativePostgres("start");
  const stop = () => given === undefined && runNativePostgres("stop");
  try {
    const name = `pgquiver_bench_${process.pid}`;
    const url = Object.assign(new URL(server), { pathname: `/${name}` }).href;
    await execute(server, `create database ${name}`);
    await execute(url, "create extension vector");
    const [row] = await execute(
      url,
      `select 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1) || ', pgvector ' || extversion as version
       from pg_extension where extname = 'vector'`,
    );
    const pools: pg.Pool[] = [];
    return {
      url,
      version: String(row?.["version"]),
      openPool(settings = {}) {
        const options = Object.entries(settings)
          .map(([name, value]) => `-c ${name}=${value}`)
          .join(" ");
        const pool = new pg.Pool({ connectionString: url, max: CONNECTIONS, options });
        // `end` does not wait for the server's side, so the forced drop may still reach a connection.
        pool.on("error", () => {});
        pools.push(pool);
        return pool;
      },
      async [Symbol.asyncDispose]() {
        await Promise.all(pools.map((pool) => pool.end()));
        await execute(server, `drop database ${name} with (force)`);
        stop();
      },
    };
  } catch (error) {
    stop();
    throw error;
  }
}

/** Runs one statement on a connection of its own. */
export async function execute(url: string, statement: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(statement)).rows;
  } finally {
    await client.end();
  }
}

/** Prints the URL of the server when it starts it. */
function runNativePostgres(command: "start" | "stop"): string {
  const script = join(import.meta.dirname, "../../scripts/native-postgres.sh");
  const output = execFileSync(script, [command, "--name", `bench-${process.pid}`], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  return output.trim();
}
