import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { build } from "vite";
import { afterAll, beforeAll, expect, test } from "vitest";
import { IngestState } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { hasBrowser, openPage } from "../../support/clients/browser.ts";
import { startServer } from "../../support/servers/server.ts";

const KEY = "a-key-of-16-chars";
const root = join(import.meta.dirname, "../../..");
/** Serves pages to browsers, from another origin than the service's. */
const site = createServer();
site.listen(0, "127.0.0.1");
await once(site, "listening");
const origin = `http://127.0.0.1:${(site.address() as AddressInfo).port}`;
const server = await startServer({ apiKeys: [KEY], corsOrigins: [origin] });
const folder = mkdtempSync(join(tmpdir(), "pgquiver-client-"));
/** Where .ci/run installs it from npm, or where somebody has it. */
const bun = [join(root, "clients/typescript/.bun/node_modules/.bin/bun"), "bun"].find(
  (command) => spawnSync(command, ["--version"]).status === 0,
);
if (bun === undefined) console.warn("Bun is not installed: the package is not tried in it.");
if (!hasBrowser) console.warn("Chromium is not installed: the package is not tried in a page.");

afterAll(async () => {
  await server[Symbol.asyncDispose]();
  site.close();
  rmSync(folder, { recursive: true });
});

/** A file in what `npm pack` makes. */
interface Packed {
  path: string;
  size: number;
}
let packed: Packed[] = [];

/** Installs what `npm pack` makes, as npm would; the dependencies are those of the repository. */
beforeAll(() => {
  const npm = (args: string[], cwd: string) =>
    execFileSync("npm", args, {
      cwd,
      encoding: "utf8",
      env: { ...process.env, npm_config_loglevel: "error" },
    });
  const [made] = JSON.parse(
    npm(["pack", "--json", "--silent", "--pack-destination", folder], join(root, "clients/typescript")),
  ) as { files: Packed[] }[];
  packed = made?.files ?? [];
  mkdirSync(join(folder, "node_modules/@pgquiver/client"), { recursive: true });
  const target = join(folder, "node_modules/@pgquiver/client");
  execFileSync("tar", [
    "-xzf",
    join(folder, "pgquiver-client-0.1.0.tgz"),
    "-C",
    target,
    "--strip-components=1",
  ]);
  for (const scope of ["@bufbuild", "@connectrpc", "@langchain", "@types", "undici-types"])
    symlinkSync(join(root, "node_modules", scope), join(folder, "node_modules", scope));
  writeFileSync(join(folder, "package.json"), '{"type": "module"}');
});

test("the package is what it exports, each with its types, and nothing of the service", () => {
  const paths = packed.map(({ path }) => path);
  const outside = paths.filter((path) => !path.startsWith("dist/"));
  expect(outside.toSorted()).toEqual(["LICENSE", "README.md", "package.json"]);
  const services = paths.filter((path) => path.startsWith("dist/src/"));
  // The loader of the command line is the package's own; of the rest of src/ nothing is needed.
  expect(services.filter((path) => !/^dist\/src\/cli\/load\/(?:batches|load|rows)\./.test(path))).toEqual([]);
  for (const path of paths.filter((one) => one.endsWith(".js")))
    expect(paths).toContain(path.replace(/\.js$/, ".d.ts"));
  const bytes = packed.reduce((sum, { size }) => sum + size, 0);
  expect(bytes).toBeLessThan(2_000_000);
  const { exports } = JSON.parse(readFileSync(join(root, "clients/typescript/package.json"), "utf8")) as {
    exports: Record<string, string | Record<string, string>>;
  };
  const targets = Object.values(exports).flatMap((one) =>
    typeof one === "string" ? one : Object.values(one),
  );
  for (const target of targets) {
    const [before = "", after] = target.replace("./", "").split("*");
    expect(
      paths.some((path) => path.startsWith(before) && path.endsWith(after ?? before)),
      target,
    ).toBe(true);
  }
});

/** Runs a command in a folder that has the package and nothing else of this repository. */
async function execute([command = "", ...args]: string[]): Promise<string> {
  const child = spawn(command, args, {
    cwd: folder,
    env: { PATH: process.env["PATH"], PGQUIVER_URL: server.url, PGQUIVER_API_KEY: KEY },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = once(child, "close");
  const [output, complaints] = await Promise.all([text(child.stdout), text(child.stderr)]);
  await ended;
  expect(complaints).toBe("");
  return output;
}

/** Runs a program that prints JSON. */
async function run(program: string, command: string[] = [process.execPath]): Promise<unknown> {
  const file = join(folder, `${crypto.randomUUID()}.mjs`);
  writeFileSync(file, program);
  return JSON.parse(await execute([...command, file]));
}

const SEARCHES = `
  const store = await client.store(id).ensure(2);
  await store.upsert([
    { id: "a", content: "one", embedding: new Float32Array([1, 0]), metadata: { lang: "en", year: 2024 } },
    { id: "b", content: "two", embedding: [0, 1], metadata: { lang: "de", year: 2025 } },
  ]);
  const ids = async (options) => (await store.search({ embedding: [1, 0], ...options })).map(({ id }) => id);
  const found = [
    await store.search({ embedding: [1, 0], limit: 1 }),
    await ids({ filters: { lang: "de", year: 2025 } }),
    await ids({ filters: { type: "or", filters: [{ type: "in", key: "lang", value: ["de"] }, { type: "lt", key: "year", value: 2025 }] } }),
    await store.delete(["a", "none"]),
    await store.purge("all"),
  ];
  console.log(JSON.stringify(found));`;

const FOUND = [
  [{ id: "a", content: "one", metadata: { lang: "en", year: 2024 }, score: 1 }],
  ["b"],
  ["a", "b"],
  ["a"],
  1,
];

async function expectSearches(command: string[]): Promise<void> {
  const program = `import { connect } from "@pgquiver/client";
    const client = connect(), id = "${crypto.randomUUID()}";${SEARCHES}`;
  expect(await run(program, command)).toEqual(FOUND);
}

test("the package searches over gRPC in Node", () => expectSearches([process.execPath]));

test.runIf(bun !== undefined)("the package searches over gRPC in Bun (runs where bun is)", () =>
  expectSearches([String(bun)]),
);

test.runIf(hasBrowser)(
  "the package searches from a page of another origin (runs where chromium is)",
  async () => {
    const options = JSON.stringify({ url: server.url, apiKey: KEY });
    const program = `import { connect } from "@pgquiver/client/web";
    const client = connect(${options}), id = "page";${SEARCHES}`;
    writeFileSync(join(folder, "page.mjs"), program);
    await build({
      root: folder,
      logLevel: "silent",
      build: {
        lib: { entry: "page.mjs", formats: ["es"], fileName: "page" },
        outDir: "site",
        target: "es2024",
      },
    });
    const script = readFileSync(join(folder, "site/page.js"));
    site.on("request", ({ url }, reply) => {
      reply.setHeader("content-type", url === "/page.js" ? "text/javascript" : "text/html");
      reply.end(
        url === "/page.js"
          ? script
          : '<link rel="icon" href="data:,"><script type="module" src="/page.js"></script>',
      );
    });
    await using opened = await openPage(origin, server.url);
    const printed = opened.page.waitForEvent("console", { predicate: (line) => line.type() === "log" });
    await opened.page.goto(origin);
    expect(JSON.parse((await printed).text())).toEqual(FOUND);
    expect(opened.faults).toEqual([]);
  },
);

test("the package searches by fetch alone, as browsers do", async () => {
  const found = await run(`import { connect } from "@pgquiver/client/web";
    const client = connect({ url: process.env.PGQUIVER_URL, apiKey: process.env.PGQUIVER_API_KEY }), id = "web";${SEARCHES}`);
  expect(found).toEqual(FOUND);
});

test("nothing of Node is in what browsers load", () => {
  const child = spawnSync(
    process.execPath,
    [
      "--conditions=browser",
      "--input-type=module",
      "--eval",
      `
      import { registerHooks } from "node:module";
      const loaded = [];
      registerHooks({ resolve(name, context, next) { loaded.push(name); return next(name, context); } });
      await import("@pgquiver/client");
      process.stdout.write(JSON.stringify(loaded));`,
    ],
    { cwd: folder, encoding: "utf8" },
  );
  const loaded = JSON.parse(child.stdout) as string[];
  expect(loaded).toContain("@connectrpc/connect-web");
  expect(loaded.filter((name) => name.startsWith("node:") || name === "@connectrpc/connect-node")).toEqual(
    [],
  );
});

const LOADS = `
  import { connect, load } from "@pgquiver/client";
  const client = connect();
  await client.store(id).ensure(2);
  let failAt = 2500;
  async function* rows() {
    for (let i = 0; i < 3000; i++) {
      if (i === failAt) {
        const isCommitted = async () => (await client.ingests.getIngest({ vectorStoreId: id, ingestId: "again" })).throughSeq > 0n;
        while (!(await isCommitted()));
        throw new Error("the disk is gone");
      }
      yield { id: "r" + i, content: ("Row " + i).padEnd(2000, "."), embedding: i === 2700 ? [1, 2, 3] : [1, i] };
    }
  }
  const failure = await load(client, id, rows(), { ingestId: "again" }).catch(({ message }) => message);
  failAt = -1;
  const seen = [];
  const { refused, ...result } = await load(client, id, rows(), { ingestId: "again", onProgress: (now) => seen.push(now) });
  const { count } = await client.embeddings.countEmbeddings({ vectorStoreId: id });
  console.log(JSON.stringify({ failure, result, refused, last: seen.at(-1), count: Number(count) }));`;

async function expectLoad(command: string[]): Promise<void> {
  const id = crypto.randomUUID();
  const { last, ...loaded } = (await run(`const id = "${id}";${LOADS}`, command)) as {
    last: { rowsRead: number; rowsCommitted: number; rowsResumed: number };
  };
  expect(loaded).toMatchObject({
    failure: "the disk is gone",
    result: { ingestId: "again", rowsWritten: 2999, rowsSkipped: 0, rowsRejected: 1 },
    refused: [{ index: 2700, id: "r2700", field: "embedding", code: "DIMENSION_MISMATCH" }],
    count: 2999,
  });
  expect(last).toMatchObject({ rowsRead: 3000, rowsCommitted: 3000 });
  expect(last.rowsResumed).toBeGreaterThan(0);
}

test("a load in Node goes on where an earlier one stopped", () => expectLoad([process.execPath]));

test.runIf(bun !== undefined)("a load in Bun goes on where an earlier one stopped (runs where bun is)", () =>
  expectLoad([String(bun)]),
);

const WATCHES = `
  import { connect, load } from "@pgquiver/client";
  const client = connect();
  await client.store(id).ensure(2);
  const states = [];
  let watched;
  async function watch() {
    const watching = client.ingests.watchIngest({ vectorStoreId: id, ingestId: "watched" })[Symbol.asyncIterator]();
    states.push((await watching.next()).value);
    watched = (async () => {
      for (let next = await watching.next(); !next.done; next = await watching.next()) states.push(next.value);
    })();
  }
  async function* rows() {
    for (let i = 0; i < 1500; i++) yield { content: ("Row " + i).padEnd(2000, "."), embedding: [1, i] };
    while (!(await client.ingests.getIngest({ vectorStoreId: id, ingestId: "watched" })).rowsWritten);
    await watch();
    yield { content: "The last row", embedding: [1, 1] };
  }
  await load(client, id, rows(), { ingestId: "watched" });
  await watched;
  const [first, last] = [states[0], states.at(-1)];
  console.log(JSON.stringify([first.state, Number(first.rowsWritten) < 1501, last.state, Number(last.rowsWritten)]));`;

async function expectWatch(command: string[]): Promise<void> {
  const watched = await run(`const id = "${crypto.randomUUID()}";${WATCHES}`, command);
  expect(watched).toEqual([IngestState.OPEN, true, IngestState.COMPLETED, 1501]);
}

test("a load is watched in Node until it has ended", () => expectWatch([process.execPath]));

test.runIf(bun !== undefined)("a load is watched in Bun until it has ended (runs where bun is)", () =>
  expectWatch([String(bun)]),
);

test("the example loads rows and finds them", async () => {
  copyFileSync(join(root, "examples/clients/example.mjs"), join(folder, "example.mjs"));
  writeFileSync(
    join(folder, "rows.ndjson"),
    '{"id":"a","content":"Refunds take thirty days"}\n{"id":"b","content":"Elephants eat bananas"}\n',
  );
  const output = await execute([process.execPath, "example.mjs", "rows.ndjson", "refunds"]);
  expect(output).toMatch(/^2 rows written\n0\.\d{3} Refunds take thirty days\n/);
});

test("LangChain.js adds, finds, filters and deletes documents", async () => {
  const found = await run(`
    import { Document } from "@langchain/core/documents";
    import { FakeEmbeddings } from "@langchain/core/utils/testing";
    import { connect } from "@pgquiver/client";
    import { PgquiverVectorStore } from "@pgquiver/client/langchain";
    class Letters extends FakeEmbeddings {
      async embedQuery(text) { return [text.split("a").length, text.split("b").length]; }
      async embedDocuments(texts) { return Promise.all(texts.map((text) => this.embedQuery(text))); }
    }
    const documents = [["1", "aaaa", "x"], ["2", "bbbb", "y"]].map(([id, pageContent, tag]) =>
      new Document({ id, pageContent, metadata: { tag } }));
    const store = await PgquiverVectorStore.fromDocuments(documents, new Letters(), { client: connect(), storeId: "langchain" });
    await store.addDocuments([new Document({ pageContent: "bbbbb", metadata: { tag: "z" } })], { ids: ["2"] });
    const found = [await store.similaritySearch("aa", 1), await store.similaritySearch("aa", 5, { tag: "z" })];
    await store.delete({ ids: ["1"] });
    found.push(await store.similaritySearch("aa", 5));
    console.log(JSON.stringify(found.map((page) => page.map(({ id, pageContent, metadata }) => [id, pageContent, metadata]))));`);
  const second = ["2", "bbbbb", { tag: "z" }];
  expect(found).toEqual([[["1", "aaaa", { tag: "x" }]], [second], [second]]);
});

test("the declarations of the package say what its functions take and give", () => {
  writeFileSync(
    join(folder, "typed.ts"),
    `import { connect, load, type LoadResult } from "@pgquiver/client";
    import { PgquiverVectorStore } from "@pgquiver/client/langchain";
    import { VectorStoreStatus } from "@pgquiver/client/v1/vector_stores";
    const client = connect({ apiKey: "key" });
    export const result: LoadResult = await load(client, "faq", [{ content: "text" }]);
    export const isReady = (await client.vectorStores.getVectorStore({ vectorStoreId: "faq" })).status === VectorStoreStatus.COMPLETED;
    export { PgquiverVectorStore };
    // @ts-expect-error: a row has a text
    await load(client, "faq", [{ id: "a" }]);`,
  );
  const options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2024"];
  const tsc = join(root, "node_modules/.bin/tsc");
  const { stdout, status } = spawnSync(tsc, [...options, "typed.ts"], { cwd: folder, encoding: "utf8" });
  expect(status, stdout).toBe(0);
});
