import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import pg from "pg";

/** Where trials run. */
export interface Ground extends AsyncDisposable {
  /** A database of its own, empty. */
  url: string;
  /** The name of the cluster that was started for it. */
  cluster: string | undefined;
}

/** Makes a database on the server with this URL, or on one that is started for it. */
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

/** Cuts off the server that was started, as a loss of power would, and starts it again. */
export async function crashCluster({ cluster }: Ground): Promise<void> {
  await runCluster("crash", cluster);
}

/** Prints the URL where it starts one. */
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
