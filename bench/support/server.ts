import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { interruption } from "./interruption.ts";

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

/** How long the service may take to stop before it is killed. */
const STOP_MS = 10_000;

/**
 * Starts `src/main.ts` on a free port with production settings: an API key, and log level info. `settings`
 * are further environment variables.
 */
export async function startServer(
  databaseUrl: string,
  settings: Record<string, string> = {},
): Promise<BenchServer> {
  const key = "benchmark";
  const child = spawn(process.execPath, ["src/main.ts"], {
    cwd: join(import.meta.dirname, "../.."),
    env: {
      DATABASE_URL: databaseUrl,
      SERVER_API_KEY: key,
      HOST: "127.0.0.1",
      PORT: "0",
      LOG_LEVEL: "info",
      ...settings,
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const stop = () => child.kill("SIGTERM");
  const kill = () => child.kill("SIGKILL");
  // Calls in flight then fail, so that a run which waits for one of them throws.
  interruption.addEventListener("abort", stop);
  process.once("exit", kill);
  const address = await Promise.race([
    readAddress(child.stdout),
    exited.then(() => Promise.reject(new Error("The server ended while it was starting."))),
  ]);
  child.stdout.removeAllListeners("data").resume();
  return {
    address,
    key,
    pid: child.pid as number,
    cpuMs: () => readCpuMs(child.pid as number),
    async [Symbol.asyncDispose]() {
      stop();
      const late = setTimeout(kill, STOP_MS);
      await exited;
      clearTimeout(late);
      interruption.removeEventListener("abort", stop);
      process.off("exit", kill);
    },
  };
}

/** Reads the address from the log line of the listening server. */
async function readAddress(log: NodeJS.ReadableStream): Promise<string> {
  return new Promise((resolve) => {
    let seen = "";
    log.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
      const address = /Listening on http:\/\/(\S+)/.exec(seen)?.[1];
      if (address !== undefined) resolve(address);
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
