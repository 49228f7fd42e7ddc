import { spawn } from "node:child_process";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { ROOT } from "../servers/process.ts";

/** The program that `npx pgquiver` starts. */
export const START = join(ROOT, "src/start.mjs");

/** How a command has ended. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** What a command gets beside its arguments. */
export interface Surroundings {
  /** Variables beside PATH. */
  environment: Record<string, string>;
  /** Default: the present one. */
  cwd?: string;
  /** Standard input; default: empty. */
  input?: string;
}

/** Runs the command line in a process of its own, as a user's shell does. */
export async function runCommand(
  args: readonly string[],
  { environment, cwd, input = "" }: Surroundings,
): Promise<Outcome> {
  const child = spawn(process.execPath, [START, ...args], {
    env: { PATH: process.env["PATH"], ...environment },
    ...(cwd !== undefined && { cwd }),
  });
  child.stdin.end(input);
  const [stdout, stderr, code] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise<number>((resolve) => child.once("close", (exitCode) => resolve(exitCode ?? -1))),
  ]);
  return { code, stdout, stderr };
}
