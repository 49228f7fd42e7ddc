import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

/** The root directory of the project. */
export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

/** A started process, which may fail to start up. */
export interface Started {
  child: ChildProcess;
  /** The lines of standard output so far. */
  output: string[];
  /** The log messages among these lines. */
  messages: string[];
  /**
   * Resolves with the first log message that matches, earlier messages included; rejects if the process ends
   * before.
   */
  said: (pattern: RegExp) => Promise<string>;
  ended: Promise<Ending>;
}

/** How a process ended. */
export interface Ending {
  /** Exit code, or the signal that killed the process. */
  code: number | NodeJS.Signals;
  /** The log message of level fatal; undefined if there is none. */
  fatal: string | undefined;
  /** Standard error. */
  errors: string;
}

/** A log line. */
interface Line {
  level: number;
  msg: string;
}

/**
 * Starts a program, by default the service, with only the given environment variables. The process ends with
 * the test.
 */
export function start(
  environment: Record<string, string>,
  { command = [process.execPath, "src/main.ts"], cwd = ROOT }: { command?: string[]; cwd?: string } = {},
): Started {
  const [program, ...options] = command as [string, ...string[]];
  const cluster = process.env["TEST_CITUS_URL"] === undefined ? {} : { CITUS: "auto" };
  const child = spawn(program, options, {
    cwd,
    env: { ...cluster, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const output: string[] = [];
  const messages: string[] = [];
  let fatal: string | undefined;
  const lines = createInterface(child.stdout);
  lines.on("line", (line) => {
    output.push(line);
    if (!line.startsWith("{")) return;
    const { level, msg } = JSON.parse(line) as Line;
    messages.push(msg);
    if (level === 60) fatal = msg;
  });
  const errors = text(child.stderr);
  const ended = once(child, "close").then(async ([code, signal]) => ({
    code: (code ?? signal) as number | NodeJS.Signals,
    fatal,
    errors: await errors,
  }));
  async function said(pattern: RegExp): Promise<string> {
    for (;;) {
      const found = messages.find((message) => pattern.test(message));
      if (found !== undefined) return found;
      const spoke = once(lines, "line").then(() => undefined);
      const end = await Promise.race([spoke, ended]);
      if (end !== undefined)
        throw new Error(`ended with ${end.code} before it said ${pattern}: ${end.fatal} ${end.errors}`);
    }
  }
  return { child, output, messages, said, ended };
}

/** Finds a free port on loopback. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}
