import { execFileSync } from "node:child_process";
import { join } from "node:path";
import pg from "pg";

/** A new database for one benchmark. Disposing drops it, and stops the Postgres if one was started for it. */
export interface BenchDatabase extends AsyncDisposable {
  url: string;
  /** Such as "PostgreSQL 17.11, pgvector 0.8.0". */
  version: string;
  /**
   * Opens a pool as large as the service's default, with these session settings. Closed with the database.
   */
  openPool(settings?: Record<string, string | number>): pg.Pool;
}

/** Pool size: the default of `DATABASE_POOL_MAX`. */
const CONNECTIONS = 10;

/**
 * Creates an empty database with pgvector on the server at BENCH_DATABASE_URL or TEST_DATABASE_URL, else on
 * one that scripts/native-postgres.sh starts. With TEST_CITUS_URL, the URLs of a coordinator and of workers, on each of these
 * servers, as a cluster.
 */
export async function createDatabase(): Promise<BenchDatabase> {
  const [coordinator, ...workers] = citusUrls();
  const given = coordinator ?? process.env["BENCH_DATABASE_URL"] ?? process.env["TEST_DATABASE_URL"];
  const server = given ?? runNativePostgres("start");
  const stop = () => given === undefined && runNativePostgres("stop");
  try {
    const name = `pgquiver_bench_${process.pid}`;
    const url = Object.assign(new URL(server), { pathname: `/${name}` }).href;
    await execute(server, `create database ${name}`);
    await execute(url, "create extension vector");
    if (coordinator !== undefined) await addWorkers(url, workers);
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
        // `end` does not wait until the server has closed its connections, and the forced drop may terminate
        // one: an `error` event without a listener would end the process.
        pool.on("error", () => {});
        pools.push(pool);
        return pool;
      },
      async [Symbol.asyncDispose]() {
        await Promise.all(pools.map((pool) => pool.end()));
        for (const node of [server, ...workers]) await execute(node, `drop database ${name} with (force)`);
        stop();
      },
    };
  } catch (error) {
    stop();
    throw error;
  }
}

/** The URLs of TEST_CITUS_URL: of a coordinator, then of its workers; none without the variable. */
export function citusUrls(): string[] {
  return process.env["TEST_CITUS_URL"]?.split(",") ?? [];
}

/** Makes a cluster of a database and new ones of its name on the workers. */
async function addWorkers(url: string, workers: readonly string[]): Promise<void> {
  const { pathname, hostname, port } = new URL(url);
  await execute(url, "create extension citus");
  await execute(url, `select citus_set_coordinator_host('${hostname}', ${port})`);
  for (const worker of workers) {
    await execute(worker, `create database ${pathname.slice(1)}`);
    const inside = Object.assign(new URL(worker), { pathname });
    await execute(inside.href, "create extension vector; create extension citus");
    await execute(url, `select citus_add_node('${inside.hostname}', ${inside.port})`);
  }
}

/** Runs one statement on a new connection. */
export async function execute(url: string, statement: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(statement)).rows;
  } finally {
    await client.end();
  }
}

/** Runs scripts/native-postgres.sh; returns its output, the server's URL for `start`. */
function runNativePostgres(command: "start" | "stop"): string {
  const script = join(import.meta.dirname, "../../scripts/native-postgres.sh");
  const output = execFileSync(script, [command, "--name", `bench-${process.pid}`], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  return output.trim();
}
