import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { startProcess } from "./process.ts";

/** The service in a child process; disposing stops it. */
export interface BenchServer extends AsyncDisposable {
  /** Such as `127.0.0.1:49152`. */
  address: string;
  /** The API key that the service requires. */
  key: string;
  pid: number;
  /**
   * CPU time of the process so far (user and kernel mode) in milliseconds, with a resolution of 10 ms. Linux
   * only.
   */
  cpuMs: () => number;
}

/** Unit of the times in /proc: USER_HZ is 100 on every architecture that Node supports. */
const TICK_MS = 10;

/**
 * Starts `src/main.ts` on a free port with production settings, an API key, and log level info, but without tuning the
 * recall, and with the lexical embedder. `settings` are further environment variables.
 */
export async function startServer(
  databaseUrl: string,
  settings: Record<string, string> = {},
): Promise<BenchServer> {
  const key = "benchmark";
  const child = startProcess(process.execPath, ["src/main.ts"], {
    cwd: join(import.meta.dirname, "../.."),
    env: {
      DATABASE_URL: databaseUrl,
      SERVER_API_KEY: key,
      HOST: "127.0.0.1",
      PORT: "0",
      LOG_LEVEL: "info",
      // The floors search with the same ef_search throughout, and so must the service.
      RECALL_SAMPLING_PERCENT: "0",
      EMBEDDING__MODEL: "lexical",
      ...settings,
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const log = child.output as Readable;
  const address = await Promise.race([
    Promise.all([readAddress(log), waitUntilReady(log)]).then(([found]) => found),
    child.exited.then(() => Promise.reject(new Error("The server ended while it was starting."))),
  ]);
  log.removeAllListeners("data").resume();
  return {
    address,
    key,
    pid: child.pid,
    cpuMs: () => readCpuMs(child.pid),
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

/** Reads the address of a server from the line that it prints when it listens. */
export async function readAddress(log: NodeJS.ReadableStream): Promise<string> {
  return new Promise((resolve) => {
    let seen = "";
    log.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
      const address = /Listening on http:\/\/(\S+)/.exec(seen)?.[1];
      if (address !== undefined) resolve(address);
    });
  });
}

/** Waits until a service says that all of its processes serve: before, every connection would go to the first one. */
export async function waitUntilReady(log: NodeJS.ReadableStream): Promise<void> {
  return new Promise((resolve) => {
    let seen = "";
    log.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
      if (/"Ready"/.test(seen)) resolve();
    });
  });
}

/**
 * Reads utime and stime, fields 14 and 15 of proc_pid_stat(5). Field 2, in parentheses, may contain spaces,
 * so the line is split after the last parenthesis.
 */
export function readCpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/.*\) /s, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** CPU time of a process and of all processes that it has started, in milliseconds. */
export function treeCpuMs(pid: number): number {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean).map(Number),
  );
  return readCpuMs(pid) + children.reduce((sum, child) => sum + treeCpuMs(child), 0);
}
