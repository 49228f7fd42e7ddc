import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { createServer as createTlsServer, Server as TlsServer } from "node:tls";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { certificate } from "../../support/servers/certificate.ts";
import { createStore, expectExactCounts, readRows } from "../../support/stores/ingest-store.ts";
import { startServer, type TestServer } from "../../support/servers/server.ts";

const EXAMPLES = join(import.meta.dirname, "../../../examples");

/** Debian's packages belong to Debian's own Python, which need not be the first in PATH. */
const python = ["python3", "/usr/bin/python3"].find(
  (command) => spawnSync(command, ["-c", "import grpc, grpc_tools"]).status === 0,
);

const CLIENTS = [
  {
    name: "the ingest client in TypeScript",
    command: [process.execPath, join(EXAMPLES, "ingest-typescript/ingest.ts")],
    isInstalled: true,
  },
  {
    name: "the ingest client in Python (runs where python3 has grpc and grpc_tools)",
    command: [String(python), join(EXAMPLES, "ingest-python/ingest.py")],
    isInstalled: python !== undefined,
  },
];

let server: TestServer;
let directory: string;

beforeAll(async () => {
  server = await startServer();
  directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  if (python === undefined) return;
  const { status, stderr } = spawnSync(join(EXAMPLES, "ingest-python/generate.sh"), {
    env: { ...process.env, PYTHON: python },
  });
  expect(status, String(stderr)).toBe(0);
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

for (const { name, command, isInstalled } of CLIENTS) {
  describe.runIf(isInstalled)(name, () => {
    test("loads every row as it stands in the file", async () => {
      const storeId = await createStore(server);
      const rows = makeRows(3000, 20).map((row, index) => ({ id: `row-${10_000 + index}`, ...row }));
      const file = await writeLines(
        rows.map((row, index) => toLine({ ...row, created_at: 1_700_000_000 }, index)),
      );
      const { code, output, errors } = await start(command, server, storeId, file).ended;
      expect(errors).toContain("[##############################] 3000 rows read, 3000 committed");
      expect({ code, output }).toEqual({ code: 0, output: "3000 rows written, 0 skipped, 0 refused\n" });
      const stored = await readRows(server, storeId);
      expect(stored).toEqual(rows);
      const { rows: times } = await server.database.pool.query(
        `select distinct extract(epoch from created_at)::int as seconds from embeddings where vector_store_id = $1`,
        [storeId],
      );
      expect(times).toEqual([{ seconds: 1_700_000_000 }]);
    });

    test("loads each row once through a network that breaks again and again", async () => {
      const storeId = await createStore(server);
      const rows = makeRows(4000, 2000);
      const file = await writeLines(rows.map(toLine));
      const proxy = await startProxy(server, [
        // Before a whole batch has come, in the middle, before the answers come back, and once more.
        { from: "client", bytes: 300_000 },
        { from: "client", bytes: 2_500_000 },
        { from: "service", bytes: 300 },
        { from: "client", bytes: 1_500_000 },
      ]);
      const { code, output, errors } = await start(command, proxy, storeId, file).ended;
      expect(errors.match(/Trying again/g)?.length, errors).toBeGreaterThanOrEqual(4);
      expect({ code, output }).toEqual({ code: 0, output: "4000 rows written, 0 skipped, 0 refused\n" });
      await expectRows(storeId, rows);
    });

    test("goes on with another service when its own ends", async () => {
      const first = await startServer({ database: server.database });
      onTestFinished(() => first[Symbol.asyncDispose]());
      const storeId = await createStore(server);
      const rows = makeRows(4000, 2000);
      const file = await writeLines(rows.map(toLine));
      // What comes after these bytes never reaches the first service, so it cannot be done before it ends.
      const proxy = await startProxy(first, [{ from: "client", bytes: 4_000_000, effect: "swallow" }]);
      const { ended } = start(command, proxy, storeId, file);
      await proxy.struck(1);
      proxy.target = server;
      await first.stop(10_000);
      const { code, output, errors } = await ended;
      const wait = /The service is shutting down: .* Trying again in ([\d.]+) s/.exec(errors)?.[1];
      expect(Number(wait), errors).toBeGreaterThanOrEqual(1);
      expect({ code, output }).toEqual({ code: 0, output: "4000 rows written, 0 skipped, 0 refused\n" });
      await expectRows(storeId, rows);
    });

    test("loads each row once when started twice at the same time", async () => {
      const storeId = await createStore(server);
      const rows = makeRows(4000, 2000);
      const file = await writeLines(rows.map(toLine));
      const both = [1, 2].map(() => start(command, server, storeId, file, ["--ingest-id", "twice"]).ended);
      for (const { code, output, errors } of await Promise.all(both)) {
        expect(code, errors).toBe(0);
        expect(output).toBe("4000 rows written, 0 skipped, 0 refused\n");
      }
      await expectRows(storeId, rows);
    });

    test("goes on where it stood when it was killed", async () => {
      const storeId = await createStore(server);
      const rows = makeRows(4000, 2000);
      const file = await writeLines(rows.map(toLine));
      const proxy = await startProxy(server, [{ from: "client", bytes: 4_000_000, effect: "swallow" }]);
      const { child, ended } = start(command, proxy, storeId, file, ["--ingest-id", "again"]);
      await proxy.struck(1);
      child.kill("SIGKILL");
      expect((await ended).code).toBe("SIGKILL");
      const { code, output } = await start(command, server, storeId, file, ["--ingest-id", "again"]).ended;
      expect({ code, output }).toEqual({ code: 0, output: "4000 rows written, 0 skipped, 0 refused\n" });
      await expectRows(storeId, rows);
    });

    test("lists the rows that are refused, with their lines, and loads the others", async () => {
      const storeId = await createStore(server);
      const rows = makeRows(30, 20).map((row, index) => ({ id: `row-${index}`, ...row }));
      const bad = rows.map((row, index) => {
        if (index === 16) return { ...row, embedding: [1, 2, 3] };
        if (index === 20) return { ...row, id: "row-3" };
        return row;
      });
      const file = await writeLines(bad.map(toLine));
      const { code, output, errors } = await start(command, server, storeId, file).ended;
      expect(errors).toMatch(/^Refused line 17 \(id 'row-16'\): embedding: .*dimensions/m);
      expect(errors).toMatch(/^Refused line 21 \(id 'row-3'\): id: /m);
      expect(errors.match(/Refused/g)).toHaveLength(2);
      expect({ code, output }).toEqual({ code: 3, output: "28 rows written, 0 skipped, 2 refused\n" });
      const good = rows.filter((_, index) => index !== 16 && index !== 20);
      await expectRows(storeId, good);
    });

    test("stops at a line that is no row, and goes on when it is mended", async () => {
      const storeId = await createStore(server);
      const rows = makeRows(3000, 1000);
      const lines = rows.map(toLine);
      const file = await writeLines(lines.with(2500, '{"content": 5}'));
      const failed = await start(command, server, storeId, file, ["--ingest-id", "mended"]).ended;
      expect(failed.code).toBe(1);
      expect(failed.errors).toContain(`Failed: ${file}, line 2501: 'content' must be a string`);
      await writeFile(file, lines.join("\n"));
      const mended = await start(command, server, storeId, file, ["--ingest-id", "mended"]).ended;
      expect(mended.code, mended.errors).toBe(0);
      expect(mended.output).toBe("3000 rows written, 0 skipped, 0 refused\n");
      await expectRows(storeId, rows);
    });

    test("replaces rows by --mode upsert, and tells apart what another attempt cannot mend", async () => {
      const storeId = await createStore(server);
      const [row = { content: "", embedding: [], metadata: {} }] = makeRows(1, 20);
      const file = await writeLines([toLine({ id: "one", ...row }, 0)]);
      await start(command, server, storeId, file, ["--ingest-id", "first"]).ended;
      await writeFile(file, toLine({ id: "one", ...row, content: "another" }, 0));
      const replaced = await start(command, server, storeId, file, ["--mode", "upsert"]).ended;
      expect(replaced).toMatchObject({ code: 0, output: "1 rows written, 0 skipped, 0 refused\n" });
      await expectRows(storeId, [{ ...row, content: "another" }]);

      const options = ["--ingest-id", "first", "--mode", "upsert"];
      const conflict = await start(command, server, storeId, file, options).ended;
      expect(conflict.code).toBe(1);
      expect(conflict.errors).toMatch(/^Failed: Ingest 'first' was opened before with other settings\./m);
      const missing = await start(command, server, "nowhere", file).ended;
      expect(missing.code).toBe(1);
      expect(missing.errors).toContain("Failed: No vector store found with id 'nowhere'.");
      expect(conflict.errors + missing.errors).not.toContain("Trying again");
      expect((await start(command, server, storeId, file, ["--mode", "replace"]).ended).code).toBe(2);
    });

    test("presents its key, over TLS", async () => {
      const guarded = await startServer({ database: server.database, apiKeys: ["right"] });
      onTestFinished(() => guarded[Symbol.asyncDispose]());
      const proxy = await startProxy(guarded, [], createTlsServer({ ...certificate, ALPNProtocols: ["h2"] }));
      const storeId = await createStore(server);
      const rows = makeRows(10, 20);
      const file = await writeLines(rows.map(toLine));
      const roots = join(directory, "roots.pem");
      await writeFile(roots, certificate.cert);
      const environment = { GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: roots, PGQUIVER_API_KEY: "right" };
      const wrong = await start(command, proxy, storeId, file, ["--tls", "--key", "wrong"], environment)
        .ended;
      expect(wrong.code, wrong.errors).toBe(1);
      expect(wrong.errors).toMatch(/Failed: Incorrect API key provided\.\n$/);
      expect(wrong.errors).not.toContain("Trying again");
      const right = await start(command, proxy, storeId, file, ["--tls"], environment).ended;
      expect(right.code, right.errors).toBe(0);
      await expectRows(storeId, rows);
    });
  });
}

interface ExampleRow {
  id?: string;
  content: string;
  embedding: number[];
  metadata: object;
}

/** Rows of four dimensions, all different, whose numbers float32 holds exactly. */
function makeRows(count: number, contentChars: number): ExampleRow[] {
  return Array.from({ length: count }, (_, index) => ({
    content: `Row ${index}, Größe \u2028 `.padEnd(contentChars, "."),
    embedding: [index + 1, -0.5, 0.25, 3],
    metadata: { index, tags: ["a", null, { deep: true }], "": 1.5 },
  }));
}

/** A line of the file; the vector of every other one is base64. */
function toLine(row: ExampleRow & { created_at?: number }, index: number): string {
  const { embedding } = row;
  if (index % 2 === 0) return JSON.stringify(row);
  return JSON.stringify({
    ...row,
    embedding: Buffer.from(Float32Array.from(embedding).buffer).toString("base64"),
  });
}

async function writeLines(lines: readonly string[]): Promise<string> {
  const file = join(directory, `${crypto.randomUUID()}.ndjson`);
  await writeFile(file, lines.join("\n"));
  return file;
}

/** Expects a store to hold these rows and no others, each of them once. */
async function expectRows(storeId: string, rows: readonly ExampleRow[]): Promise<void> {
  const contents = (await readRows(server, storeId)).map((row) => row.content);
  expect(contents.toSorted()).toEqual(rows.map((row) => row.content).toSorted());
  expect(await expectExactCounts(server, storeId)).toBe(rows.length);
}

/** Runs a client as a process with nothing but these variables. */
function start(
  [program = "", ...script]: readonly string[],
  { address }: { address: string },
  storeId: string,
  file: string,
  options: readonly string[] = [],
  environment: Record<string, string> = {},
) {
  const required = ["--address", address, "--store", storeId, "--file", file];
  const child = spawn(program, [...script, ...required, ...options], {
    env: { PATH: process.env["PATH"], ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const said = Promise.all([text(child.stdout), text(child.stderr)]);
  const ended = once(child, "close").then(async ([code, signal]) => {
    const [output, errors] = await said;
    return { code: (code ?? signal) as number | NodeJS.Signals, output, errors };
  });
  return { child, ended };
}

/** What happens to a connection when so many bytes have come from one side: by default both ends are cut. */
interface Blow {
  from: "client" | "service";
  bytes: number;
  effect?: "cut" | "swallow";
}

/** A way to a service on which the first connections suffer one blow each. */
interface Proxy {
  address: string;
  /** Where the connections to come lead. */
  target: { address: string };
  /** Resolves when so many blows have been struck. */
  struck: (count: number) => Promise<void>;
}

async function startProxy(
  target: { address: string },
  blows: Blow[],
  listener: Server = createServer(),
): Promise<Proxy> {
  const struck = blows.map(() => Promise.withResolvers<void>());
  const sockets = new Set<Socket>();
  let connections = 0;
  listener.on(listener instanceof TlsServer ? "secureConnection" : "connection", (near: Socket) => {
    const [host = "", port] = proxy.target.address.split(":");
    const far = connect({ host, port: Number(port) });
    const index = connections++;
    pass("client", near, far);
    pass("service", far, near);

    function pass(side: Blow["from"], from: Socket, to: Socket) {
      sockets.add(from);
      let bytes = 0;
      from.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        const blow = blows[index];
        if (blow?.from !== side || bytes < blow.bytes) {
          if (!to.write(chunk)) {
            from.pause();
            to.once("drain", () => from.resume());
          }
          return;
        }
        struck[index]?.resolve();
        if (blow.effect === "swallow") return;
        near.destroy();
        far.destroy();
      });
      from.on("end", () => to.end());
      from.on("error", () => to.destroy());
      from.on("close", () => to.destroy());
    }
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  onTestFinished(() => {
    listener.close();
    for (const socket of sockets) socket.destroy();
  });
  const proxy: Proxy = {
    address: `127.0.0.1:${(listener.address() as AddressInfo).port}`,
    target,
    async struck(count) {
      await Promise.all(struck.slice(0, count).map(({ promise }) => promise));
    },
  };
  return proxy;
}
