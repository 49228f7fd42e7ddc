import { execFile, spawnSync } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

const stubs = join(import.meta.dirname, "../../../scripts/stubs");

function succeeds(command: string, ...args: string[]): boolean {
  const env = { ...process.env, GOPROXY: "off" };
  return spawnSync(command, args, { cwd: join(stubs, "go"), env }).status === 0;
}

/** Debian's packages belong to Debian's own Python, which need not be the first in PATH. */
const python = ["python3", "/usr/bin/python3"].find((command) =>
  succeeds(command, "-c", "import grpc, google.protobuf"),
);
const hasProtoc = succeeds("protoc", "-o", "/dev/null", "google/protobuf/duration.proto");
/** The modules must be there already: a test fetches nothing. */
const hasGo = hasProtoc && succeeds("go", "mod", "download");
const hasPython = hasProtoc && python !== undefined && succeeds("which", "grpc_python_plugin");

async function call(script: string): Promise<string> {
  const env = { ...process.env, NODE: process.execPath, PYTHON: python };
  const { stdout } = await promisify(execFile)(join(stubs, script), [server.address], { env });
  return stdout;
}

test.runIf(hasPython)(
  "Python code generated from the bundle calls the service (runs where protoc, its plugin and grpcio are installed)",
  async () => expect(await call("python.sh")).toBe("Python: 3 rows written and read\n"),
  300_000,
);

test.runIf(hasGo)(
  "Go code generated from the bundle calls the service (runs where protoc, Go and the modules are installed)",
  async () => expect(await call("go.sh")).toBe("Go: 3 rows written and read\n"),
  900_000,
);
