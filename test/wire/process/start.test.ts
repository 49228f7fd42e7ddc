import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import { freePort, ROOT, start } from "../../support/servers/process.ts";

/** A directory that is gone after the test. */
async function makeDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** The URL of a Postgres that takes connections and never says a word. */
async function silentPostgres(): Promise<string> {
  const server = createServer((socket) => socket.on("error", () => {}).resume()).listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  return `postgresql://127.0.0.1:${(server.address() as AddressInfo).port}/vectors`;
}

/** The URL of a Postgres that refuses every password. */
async function strictPostgres(): Promise<string> {
  const refusal = 'SFATAL\0C28P01\0Mpassword authentication failed for user "ada"\0\0';
  const message = Buffer.alloc(5 + refusal.length);
  message.write("E");
  message.writeInt32BE(4 + refusal.length, 1);
  message.write(refusal, 5);
  const server = createServer((socket) =>
    socket.on("error", () => {}).once("data", () => socket.end(message)),
  );
  onTestFinished(() => void server.close());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `postgresql://ada:secret@127.0.0.1:${(server.address() as AddressInfo).port}/vectors`;
}

/** Writes the program's standard output to a terminal. `script` is util-linux's. */
const onTerminal = (file: string) => ({
  command: ["script", "-qefc", `${process.execPath} src/main.ts`, file],
});

describe("the log", () => {
  test("on a terminal is for people: time of day, level, message, and a table of what was started", async () => {
    const directory = await makeDirectory();
    const file = join(directory, "terminal");
    const environment = {
      DATA_DIRECTORY: join(directory, "data"),
      // There is no template for tables of this name.
      DB_TABLES__EMBEDDINGS: "chunks",
      PORT: "0",
      PATH: String(process.env["PATH"]),
    };
    const { output, child, ended } = start({ ...environment, TERM: "xterm-256color" }, onTerminal(file));
    // Its last line of advice.
    await expect.poll(() => output.join("\n"), { timeout: 60_000 }).toContain("SERVER_API_KEY");
    child.kill("SIGTERM");
    await ended;
    const written = await readFile(file, "utf8");
    expect(written).toContain("\u001b[32mINFO");
    const lines = stripVTControlCharacters(written).split(/\r?\n/).slice(1);
    const seen = lines.map((line) => line.replace(/^\d\d:\d\d:\d\d /, "").replaceAll(directory, "DIR"));
    expect(seen.slice(0, 10)).toEqual([
      "INFO  Creating the embedded database in DIR/data: this takes some seconds, once",
      expect.stringMatching(/^INFO {2}Applying \d+ migrations, up to \d{3}_\w+\.sql$/),
      expect.stringMatching(/^INFO {2}Listening on http:\/\/127\.0\.0\.1:\d+ for gRPC/),
      "INFO  Ready",
      "",
      `${" ".repeat(15)}version   0.1.0`,
      expect.stringMatching(/^ {15}address {3}http:\/\/127\.0\.0\.1:\d+$/),
      `${" ".repeat(15)}database  the embedded database in DIR/data`,
      `${" ".repeat(15)}embedder  the built-in pgquiver-meaning-v1, for English`,
      `${" ".repeat(15)}docs      ${join(ROOT, "README.md")}`,
    ]);
  }, 300_000);

  test("is text without colours by LOG_FORMAT where there is no terminal", async () => {
    const { output, ended } = start({ PORT: "x", LOG_FORMAT: "text" });
    expect(await ended).toMatchObject({ code: 1, errors: "" });
    expect(output).toEqual([
      expect.stringMatching(/^\d\d:\d\d:\d\d FATAL The configuration is invalid:$/),
      expect.stringMatching(/^ {17}PORT: expected an integer/),
    ]);
  });

  test("is JSON by LOG_FORMAT on a terminal", async () => {
    const file = join(await makeDirectory(), "terminal");
    const environment = { PORT: "x", LOG_FORMAT: "json", PATH: String(process.env["PATH"]) };
    expect(await start(environment, onTerminal(file)).ended).toMatchObject({
      code: 1,
      fatal: expect.stringMatching(/^The configuration is invalid:\n {2}PORT: /),
    });
  });

  test("where it is silent, the reason of a fatal end goes to standard error", async () => {
    const { output, ended } = start({ PORT: "x", LOG_LEVEL: "silent" });
    expect(await ended).toMatchObject({ code: 1, errors: expect.stringContaining("PORT: expected") });
    expect(output).toEqual([]);
  });

  test("has an error that nothing caught, with its stack, and the process ends with 1", async () => {
    const fault = "process.once('SIGUSR2', () => { throw new TypeError('out of order') })";
    const { output, child, said, ended } = start(
      { DATABASE_URL: await silentPostgres() },
      { command: [process.execPath, "--import", `data:text/javascript,${fault}`, "src/main.ts"] },
    );
    await said(/^Connecting to PostgreSQL/);
    child.kill("SIGUSR2");
    expect(await ended).toEqual({ code: 1, fatal: "out of order", errors: "" });
    expect(output.at(-2)).toMatch(
      /"err":\{"type":"TypeError","message":"out of order","stack":"TypeError: out of/,
    );
  });
});

describe("what is probably a mistake is a warning", () => {
  test("a variable that looks like one of the service's, even where the rest is invalid, without its value", async () => {
    const { output, messages, ended } = start({
      EMBEDDING_BASE_URL: "secret",
      EMBEDDING__MODEL: "m",
      PATH: "/bin",
    });
    expect((await ended).fatal).toContain("EMBEDDING__BASE_URL: needed with EMBEDDING__API_KEY");
    expect(messages[0]).toBe(
      "The variable EMBEDDING_BASE_URL is not read: did you mean EMBEDDING__BASE_URL?",
    );
    expect(output.join()).not.toContain("secret");
  });

  test("an embedding provider that does not answer, once the service listens", async () => {
    const { messages, said } = start({
      DATA_DIRECTORY: join(await makeDirectory(), "data"),
      PORT: "0",
      EMBEDDING__BASE_URL: `http://127.0.0.1:${await freePort()}/v1`,
    });
    const warning = await said(/^EMBEDDING__BASE_URL: /);
    expect(warning).toMatch(
      /127\.0\.0\.1:\d+\/v1 does not answer \(connect ECONNREFUSED 127\.0\.0\.1:\d+\)\./,
    );
    expect(messages.indexOf(warning)).toBeGreaterThan(messages.indexOf("Ready"));
  }, 300_000);
});

test("a password that the database refuses ends the start with what to do, and without the password", async () => {
  const { ended } = start({ DATABASE_URL: await strictPostgres() });
  expect(await ended).toEqual({
    code: 1,
    fatal: expect.stringMatching(
      /^Cannot use PostgreSQL at 127\.0\.0\.1:\d+, database vectors: password authentication failed for user "ada"\. Set the right user and password in DATABASE_URL, with every/,
    ),
    errors: "",
  });
});

describe("src/start.mjs", () => {
  const command = [process.execPath, join(ROOT, "src/start.mjs")];

  test("reads .env of the working directory", async () => {
    const cwd = await makeDirectory();
    await writeFile(join(cwd, ".env"), 'LOG_LEVEL="from the file"\n');
    expect(await start({}, { command, cwd }).ended).toMatchObject({
      code: 1,
      fatal: expect.stringContaining("LOG_LEVEL: expected one of"),
    });
  });

  test("says in a sentence that an older Node will not do, and ends with 1", async () => {
    const older = "Object.defineProperty(process, 'versions', { value: { node: '24.11.1' } })";
    const [node, program] = command as [string, string];
    const { output, ended } = start(
      {},
      { command: [node, "--import", `data:text/javascript,${older}`, program] },
    );
    const { code, errors } = await ended;
    expect({ code, output }).toEqual({ code: 1, output: [] });
    expect(errors).toMatch(
      /^pgquiver needs Node 24\.12 or later, and this is Node 24\.11\.1\. Install it from .+\n$/,
    );
  });

  test("keeps compiled code beside the packages, or where NODE_COMPILE_CACHE says", async () => {
    const cwd = await makeDirectory();
    const tell =
      "process.on('exit', () => console.log(module.getCompileCacheDir() ?? 'none')); import module from 'node:module'";
    const [node, program] = command as [string, string];
    const run = async (environment: Record<string, string>) => {
      const words = [node, "--import", `data:text/javascript,${tell}`, program, "doctor"];
      const { output, ended } = start(environment, { command: words, cwd });
      expect(await ended).toMatchObject({ code: 0, errors: "" });
      return output.at(-1);
    };
    expect(await run({})).toContain(join(ROOT, "node_modules/.cache/pgquiver/compiled"));
    expect(await run({ NODE_COMPILE_CACHE: join(cwd, "mine") })).toContain(join(cwd, "mine"));
    expect(await run({ NODE_DISABLE_COMPILE_CACHE: "1" })).toBe("none");
  });

  test("is what `npm run doctor` runs the doctor by", async () => {
    const cwd = await makeDirectory();
    const { output, ended } = start({}, { command: [...command, "doctor"], cwd });
    expect(await ended).toMatchObject({ code: 0, errors: "" });
    expect(output[0]).toMatch(/^NOTICE {3}connection: There is no database in \.pgquiver yet/);
  });
});

describe("a signal", () => {
  test.each(["SIGTERM", "SIGINT"] as const)("%s during the start ends it with 0", async (signal) => {
    const { child, said, ended } = start({ DATABASE_URL: await silentPostgres() });
    await said(/^Connecting to PostgreSQL/);
    child.kill(signal);
    expect(await ended).toMatchObject({ code: 0, fatal: undefined, errors: "" });
    await said(new RegExp(`^${signal} during the start: ending$`));
  });

  test("as soon as the service listens ends it in order", async () => {
    const data = join(await makeDirectory(), "data");
    const { child, messages, said, ended } = start({ DATA_DIRECTORY: data, PORT: "0" });
    await said(/^Listening/);
    child.kill("SIGTERM");
    expect(await ended).toMatchObject({ code: 0, fatal: undefined, errors: "" });
    expect(messages.at(-1)).toBe("Stopped");
  }, 300_000);

  test("to `npm start` ends the service too", async () => {
    const data = join(await makeDirectory(), "data");
    const { child, messages, said, ended } = start(
      { DATA_DIRECTORY: data, PORT: "0", PATH: String(process.env["PATH"]) },
      { command: ["npm", "start"] },
    );
    await said(/^Listening/);
    child.kill("SIGTERM");
    // Its output ends with the last process that has it.
    await ended;
    expect(messages.at(-1)).toBe("Stopped");
  }, 300_000);
});
