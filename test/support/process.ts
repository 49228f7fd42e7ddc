import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

/** The directory of the project. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** A process that has been started, perhaps in vain. */
export interface Started {
  child: ChildProcess;
  /** The lines of its standard output so far. */
  output: string[];
  /** The messages of those that are JSON. */
  messages: string[];
  /** Resolves with the first message that matches, which may be an old one; rejects when the process ends without. */
  said: (pattern: RegExp) => Promise<string>;
  ended: Promise<Ending>;
}

/** What a process ended with. */
export interface Ending {
  /** Its exit code, or the signal it was killed by. */
  code: number | NodeJS.Signals;
  /** The message it logged as fatal. */
  fatal: string | undefined;
  /** All it wrote to standard error. */
  errors: string;
}

/** A line of the log. */
interface Line {
  level: number;
  msg: string;
}

/** Starts a program, by default the service as `main.ts`, with these variables and no others. It ends with the test. */
export function start(
  environment: Record<string, string>,
  { command = [process.execPath, "src/main.ts"], cwd = ROOT }: { command?: string[]; cwd?: string } = {},
): Started {
  const [program, ...options] = command as [string, ...string[]];
  const child = spawn(program, options, { cwd, env: environment, stdio: ["ignore", "pipe", "pipe"] });
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

/** A port of loopback on which nothing listens. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}
