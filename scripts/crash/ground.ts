import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import pg from "pg";

/** The database that trials run on; disposing drops it, or stops its cluster. */
export interface Ground extends AsyncDisposable {
  /** URL of an empty database created for the run. */
  url: string;
  /** Name of the Postgres cluster started for the run; undefined: the server was given. */
  cluster: string | undefined;
}

/** Creates a database on the server at this URL, or on a server started for the run. */
export async function prepareGround(databaseUrl: string | undefined): Promise<Ground> {
  const cluster = databaseUrl === undefined ? `crash-${process.pid}` : undefined;
  const server = databaseUrl ?? (await runCluster("start", cluster));
  const name = `pgquiver_crash_${randomUUID().slice(0, 8)}`;
  await execute(server, `create database ${name}`);
  return {
    url: Object.assign(new URL(server), { pathname: `/${name}` }).href,
    cluster,
    async [Symbol.asyncDispose]() {
      if (cluster !== undefined) await runCluster("stop", cluster);
      else await execute(server, `drop database ${name} with (force)`);
    },
  };
}

/** Kills the server started for the run without a shutdown, like a power failure, and restarts it. */
export async function crashCluster({ cluster }: Ground): Promise<void> {
  await runCluster("crash", cluster);
}

/** Runs scripts/native-postgres.sh; resolves to its output, the URL for `start`. */
async function runCluster(command: "start" | "stop" | "crash", cluster: string | undefined): Promise<string> {
  const script = join(import.meta.dirname, "..", "native-postgres.sh");
  const child = spawn(script, [command, "--name", String(cluster)], { stdio: ["ignore", "pipe", "inherit"] });
  const [output, [code]] = (await Promise.all([text(child.stdout), once(child, "exit")])) as [
    string,
    [number | null],
  ];
  if (code !== 0) throw new Error(`${script} ${command} ended with ${code}.`);
  return output.trim();
}

async function execute(url: string, statement: string): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
