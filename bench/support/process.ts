import { spawn, type StdioOptions } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";
import { interruption } from "./interruption.ts";

/** A server in a child process. Disposing stops it; it also ends with the benchmark's process. */
export interface BenchProcess extends AsyncDisposable {
  pid: number;
  /** Its standard output; null unless it is piped. */
  output: Readable | null;
  /** Settles when the process has ended; rejects when it could not be started. */
  exited: Promise<unknown>;
}

/** How long a process may take to stop before it is killed. */
const STOP_MS = 10_000;

/** Starts a process, which SIGTERM is to stop. */
export function startProcess(
  command: string,
  args: readonly string[],
  options: { cwd: string; env: Record<string, string | undefined>; stdio: StdioOptions },
): BenchProcess {
  const child = spawn(command, args, options);
  const exited = once(child, "exit");
  // Whoever waits for it sees the rejection; without a handler it would end the run before the others are stopped.
  exited.catch(() => {});
  const stop = () => child.kill("SIGTERM");
  const kill = () => child.kill("SIGKILL");
  // Calls in flight then fail, so that a run which waits for one of them throws.
  interruption.addEventListener("abort", stop);
  process.once("exit", kill);
  return {
    pid: child.pid as number,
    output: child.stdout,
    exited,
    async [Symbol.asyncDispose]() {
      stop();
      const late = setTimeout(kill, STOP_MS);
      await exited.catch(() => {});
      clearTimeout(late);
      interruption.removeEventListener("abort", stop);
      process.off("exit", kill);
    },
  };
}
