import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, expect, test } from "vitest";
import { startServer } from "../support/servers/server.ts";

/** A Python that has the package; the machine's own may be behind another on the path. */
const python = [process.env["PYTHON"] ?? "python3", "/usr/bin/python3"].find(
  (command) => spawnSync(command, ["-c", "import openai"]).status === 0,
);

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

test.runIf(python !== undefined)(
  "OpenAI's client for Python runs a whole program (where python3 has the package openai)",
  async () => {
    const program = join(import.meta.dirname, "python/program.py");
    const child = spawn(String(python), [program, `${server.url}/v1`], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const [[status], complaints] = await Promise.all([once(child, "exit"), text(child.stderr)]);
    expect(complaints).toBe("");
    expect(status).toBe(0);
  },
);
