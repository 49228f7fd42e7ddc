import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");
const readme = readFileSync(join(root, "README.md"), "utf8");

/** Every block of README that is a command or a program, in order. */
const blocks = Array.from(
  readme.matchAll(/^```(bash|ts|python)\n([\s\S]*?)^```$/gm),
  ([, language, code]) => ({
    language: language as "bash" | "ts" | "python",
    code: code as string,
  }),
);

/** How each block begins, and what its output must show. The order is README's: each needs what those before it stored. */
const EXPECTED: { begins: string; shows: RegExp | "nothing to run here" }[] = [
  // `npm ci` has run before any test; `npm start` is what the other blocks are sent to.
  { begins: "npm ci\nnpm start\n", shows: "nothing to run here" },
  // These two need Docker and images from the network.
  { begins: "docker build -t pgquiver . && docker run ", shows: "nothing to run here" },
  { begins: "SERVER_API_KEY=choose-one docker compose up\n", shows: "nothing to run here" },
  { begins: "curl http://127.0.0.1:8000/v1/vector_stores \\", shows: /"text":"Our return policy allows/ },
  { begins: "import OpenAI", shows: /^Our return policy allows/ },
  { begins: "grpcurl", shows: /"text": "Our return policy allows/ },
  { begins: "npx buf curl", shows: /"text": "Our return policy allows/ },
  { begins: "from openai import OpenAI", shows: /^Our return policy allows/ },
  { begins: "FILE=", shows: /"status":"completed"[^]*"filename":"configuration.md"/ },
  { begins: "seq 1000", shows: /^$/ },
  { begins: "npx node examples/ingest-typescript", shows: /^1000 rows written, 0 skipped, 0 refused/ },
  { begins: "curl http://127.0.0.1:8000/v1/vector_stores -H", shows: /"rows_written":1000,/ },
  {
    begins: "curl http://127.0.0.1:8000/v1/vector_stores -H",
    shows: /"rows_written":10\d\d,.*"rows_rejected":0/,
  },
];

/** The tools that a machine need not have. */
const python = [process.env["PYTHON"] ?? "python3", "/usr/bin/python3"].find(
  (command) => spawnSync(command, ["-c", "import openai"]).status === 0,
);
const hasGrpcurl = spawnSync("grpcurl", ["-version"]).status === 0;

/** A working directory like a fresh clone: no `.env`, no `.pgquiver`, and what the blocks write goes away with it. */
let directory: string;
let service: ChildProcess;
/** Where the service listens, in place of README's 127.0.0.1:8000. */
let address: string;
const environment = { PATH: process.env["PATH"], HOME: process.env["HOME"] };

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  for (const name of await readdir(root))
    if (!name.startsWith(".")) await symlink(join(root, name), join(directory, name));
  service = spawn("npm", ["start"], {
    cwd: directory,
    env: { ...environment, PORT: "0" },
    stdio: ["ignore", "pipe", "pipe"],
    // A process group of its own, so that npm and what it started can be ended together.
    detached: true,
  });
  const errors = text(service.stderr as Readable);
  const listening = Promise.withResolvers<string>();
  // Reads on after the address: a full pipe would stop the service at its next log line.
  createInterface(service.stdout as Readable).on("line", (line) => {
    const [, found] = /http:\/\/(127\.0\.0\.1:\d+)/.exec(line) ?? [];
    if (found !== undefined) listening.resolve(found);
  });
  service.once("close", () => void errors.then((lines) => listening.reject(new Error(lines))));
  address = await listening.promise;
}, 300_000);

afterAll(async () => {
  // Not "exit", which tells only that npm has ended.
  const closed = once(service, "close");
  process.kill(-Number(service.pid), "SIGTERM");
  await closed;
  await rm(directory, { recursive: true });
});

/** Runs a block as a reader would who pasted it, and returns its standard output. */
async function run({ language, code }: (typeof blocks)[number]): Promise<string> {
  const source = code.replaceAll("127.0.0.1:8000", address);
  const file = join(directory, `block.${language}`);
  await writeFile(file, source);
  const [command, ...args] = {
    bash: ["bash", "-euo", "pipefail", file],
    ts: [process.execPath, file],
    python: [String(python), file],
  }[language] as [string, ...string[]];
  const child = spawn(command, args, { cwd: directory, env: environment, stdio: ["ignore", "pipe", "pipe"] });
  const [output, errors, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close"),
  ]);
  expect(status, errors).toBe(0);
  return output;
}

test("README has the blocks that are run here, and no other", () => {
  expect(blocks).toHaveLength(EXPECTED.length);
  for (const [index, { begins }] of EXPECTED.entries()) {
    const { code } = blocks[index] as (typeof blocks)[number];
    expect(code.slice(0, begins.length)).toBe(begins);
  }
});

describe("a block of README does what it says", () => {
  for (const [index, { begins, shows }] of EXPECTED.entries()) {
    if (shows === "nothing to run here") continue;
    const canRun =
      begins === "grpcurl" ? hasGrpcurl : begins.startsWith("from openai") ? python !== undefined : true;
    test.runIf(canRun)(`block ${index + 1}: ${begins}`, { timeout: 300_000 }, async () => {
      const output = await run(blocks[index] as (typeof blocks)[number]);
      expect(output).toMatch(shows);
      expect(output).not.toMatch(/"error": ?\{/);
    });
  }
});
