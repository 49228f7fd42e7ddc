import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text as textOf } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import {
  describeIsolation,
  findIsolation,
  listIsolations,
  PERMISSIONS,
  residentBytes,
  type Isolation,
} from "../../../src/documents/isolation.ts";
import { ReadingProcess } from "../../../src/documents/process.ts";

const ROOT = join(import.meta.dirname, "../../..");
const MEMORY_BYTES = 256 * 1024 * 1024;
const request = {
  kind: "read",
  document: { filename: "a.txt", chunking: { unit: "tokens", sizeMax: 800, overlap: 400 } },
  limits: {
    wholeBytesMax: 1,
    htmlBytesMax: 1,
    archiveEntriesMax: 1,
    archiveBytesMax: 1,
    textBytesMax: 1,
    chunksMax: 1,
  },
} as const;

const strongest = await findIsolation();

/** What hostile code prints that runs as a file's reader does. */
async function run(isolation: Isolation, code: string): Promise<{ output: string; errors: string }> {
  const [command, ...args] = [...isolation.launcher, process.execPath, ...PERMISSIONS, "-e", code];
  const child = spawn(command as string, args, {
    env: {},
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 20_000,
  });
  const [output, errors] = await Promise.all([
    textOf(child.stdout),
    textOf(child.stderr),
    once(child, "close"),
  ]);
  return { output, errors };
}

/** Starts a reading process in which hostile code runs as soon as a file is to be read. */
function startHostile(code: string): ReadingProcess {
  const program = `process.once("message", () => { ${code} }); process.send({ kind: "ready" });`;
  const reader = new ReadingProcess(MEMORY_BYTES, strongest, ["-e", program]);
  onTestFinished(async () => {
    reader.kill();
    await reader.ended;
  });
  return reader;
}

const server = createServer((socket) => socket.end("reached"));
let port = 0;
beforeAll(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ({ port } = server.address() as AddressInfo);
});
afterAll(() => server.close());

/** Every isolation of this machine: each is the strongest one of some other platform. */
const isolations: [string, Isolation][] = [];
for (const isolation of listIsolations()) {
  const [command = "Node alone"] = isolation.launcher;
  const name = `${command}, ${describeIsolation(isolation)}`;
  if ((await run(isolation, "console.log(1)")).output === "1\n") isolations.push([name, isolation]);
}

test("the strongest isolation that works is taken", () => {
  expect(isolations[0]?.[1]).toEqual(strongest);
});

describe.each(isolations)("hostile code in a reading process (%s)", (_, isolation) => {
  test("cannot read what lies beside the program, nor write", async () => {
    const read = (path: string) =>
      run(isolation, `fs.readFileSync(${JSON.stringify(join(ROOT, path))}); console.log("done")`);
    expect(await read("src/documents/child.ts")).toEqual({ output: "done\n", errors: "" });
    for (const path of [".env.example", "README.md", "src/config.ts"])
      expect((await read(path)).errors, path).toContain("ERR_ACCESS_DENIED");
    for (const code of [
      'fs.readFileSync("/etc/hostname")',
      'fs.readFileSync("/proc/self/environ")',
      'fs.writeFileSync("/dev/null", "x")',
    ])
      expect((await run(isolation, code)).errors, code).toContain("ERR_ACCESS_DENIED");
  });

  test.each([
    ["a thread", 'new (require("node:worker_threads").Worker)("1", { eval: true })'],
    ["a program", 'require("node:child_process").execSync("true")'],
    ["WASI", 'new (require("node:wasi").WASI)({ version: "preview1" })'],
    ["an addon", `process.dlopen({ exports: {} }, "/lib/x.node")`],
    ["the inspector", 'require("node:inspector").open(0)'],
    ["a signal", "process.kill(process.ppid || 1, 0)"],
  ])("cannot start %s", async (_name, code) => {
    const { output, errors } = await run(isolation, `${code}; console.log("done")`);
    expect(output).toBe("");
    expect(errors).toMatch(/ERR_ACCESS_DENIED|ERR_DLOPEN_DISABLED/);
  });

  test("sees no environment", async () => {
    expect(await run(isolation, "console.log(JSON.stringify(process.env))")).toEqual({
      output: "{}\n",
      errors: "",
    });
  });

  test.each([
    ["net", (to: number) => `require("node:net").connect(${to}, "127.0.0.1").on("data", console.log)`],
    ["tls", (to: number) => `require("node:tls").connect(${to}, "127.0.0.1").on("data", console.log)`],
    [
      "http",
      (to: number) => `require("node:http").get("http://127.0.0.1:${to}").on("response", console.log)`,
    ],
    ["fetch", (to: number) => `fetch("http://127.0.0.1:${to}").then(console.log)`],
    ["a server", () => 'require("node:net").createServer().listen(0, () => console.log("listening"))'],
    [
      "a name server",
      () =>
        'require("node:dns").setServers(["127.0.0.1"]); require("node:dns").resolve("a.test", console.log)',
    ],
    ["a datagram", () => 'require("node:dgram").createSocket("udp4").send("x", 9, "127.0.0.1", console.log)'],
  ])("reaches nothing by %s", async (_name, code) => {
    const connections = () =>
      new Promise<number>((resolve) => server.getConnections((_error, count) => resolve(count)));
    let reached = 0;
    const count = () => reached++;
    server.on("connection", count);
    const { output, errors } = await run(isolation, code(port));
    server.off("connection", count);
    expect(output).toBe("");
    expect(errors).toMatch(/ERR_ACCESS_DENIED/);
    expect([reached, await connections()]).toEqual([0, 0]);
  });
});

test.runIf(strongest.hasOwnUser)("the kernel gives it no file of root's", async () => {
  const folder = await mkdtemp(join(tmpdir(), "pgquiver-isolation-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "secret"), "secret", { mode: 0o600 });
  await chmod(folder, 0o755);
  const code = `try { fs.readFileSync(${JSON.stringify(join(folder, "secret"))}) } catch (e) { console.log(e.code) }`;
  // Without Node's own means: what holds when hostile code gets around them.
  const [command, ...args] = [...strongest.launcher, process.execPath, "-e", code];
  const child = spawn(command as string, args, { env: {}, stdio: ["ignore", "pipe", "inherit"] });
  expect(await textOf(child.stdout)).toBe("EACCES\n");
});

test.runIf(strongest.hasNoNetwork)("the kernel gives it no network and no other process", async () => {
  // Without Node's own means: what holds when hostile code gets around them.
  const [command, ...args] = [...strongest.launcher, process.execPath, "-e"];
  const attempt = async (code: string) => {
    const child = spawn(command as string, [...args, code], {
      env: {},
      stdio: ["ignore", "pipe", "inherit"],
    });
    return textOf(child.stdout);
  };
  expect(
    await attempt(
      `require("node:net").connect(${port}, "127.0.0.1").on("error", (e) => console.log(e.code))`,
    ),
  ).toBe("ENETUNREACH\n");
  expect(await attempt("console.log(process.pid, JSON.stringify(os.networkInterfaces()))")).toBe("1 {}\n");
  expect(await attempt(`try { process.kill(${process.pid}, 0) } catch (e) { console.log(e.code) }`)).toBe(
    "ESRCH\n",
  );
});

describe("a reading process", () => {
  test.runIf(strongest.isMemoryMeasured).each([
    ["buffers", "const all = []; for (;;) all.push(Buffer.alloc(1e6, 1));"],
    ["objects", "const all = []; for (;;) all.push({ all: [...all.slice(-99)] });"],
    ["buffers, bit by bit", "const all = []; setInterval(() => all.push(Buffer.alloc(5e6, 1)), 5);"],
  ])("is killed when its %s take too much memory", async (_, code) => {
    const reader = startHostile(code);
    await expect(reader.ask(request, 60_000)).rejects.toMatchObject({
      code: "invalid_file",
      message: "The file takes too much memory to read.",
    });
    await reader.ended;
  });

  test("is killed when it takes too much time", async () => {
    const reader = startHostile("for (;;);");
    await expect(reader.ask(request, 500)).rejects.toMatchObject({
      message: "The file takes too long to read.",
    });
    await reader.ended;
  });

  test.runIf(strongest.endsWithParent)("in a loop is killed with its parent, however that ends", async () => {
    const program = `
      import { findIsolation } from "./src/documents/isolation.ts";
      import { ReadingProcess } from "./src/documents/process.ts";
      const answer = (kind) => 'process.send({ kind: "' + kind + '" }';
      const loop = 'process.once("message", () => ' + answer("need") + ', () => { for (;;); })); ' + answer("ready") + ')';
      const reader = new ReadingProcess(${MEMORY_BYTES}, await findIsolation(), ["-e", loop]);
      await reader.ask(${JSON.stringify(request)}, 600_000);
      console.log(reader.pid);
      setInterval(() => {}, 1_000);`;
    const parent = spawn(process.execPath, ["--input-type=module-typescript", "--eval", program], {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = await once(parent.stdout, "data");
    const pid = Number(String(line));
    expect(residentBytes(pid)).toBeGreaterThan(0);
    parent.kill("SIGKILL");
    await once(parent, "close");
    await expect.poll(() => residentBytes(pid)).toBeUndefined();
  });
});
