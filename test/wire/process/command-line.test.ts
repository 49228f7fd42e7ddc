import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text as readText } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { parquetWriteFile } from "hyparquet-writer";
import { afterAll, expect, test } from "vitest";
import { LEXICAL_MODEL } from "../../../src/models/lexical.ts";
import { runCommand, START } from "../../support/clients/command-line.ts";
import { jsonClient } from "../../support/clients/json.ts";
import { startServer } from "../../support/servers/server.ts";

const KEY = "a-key-of-16-chars";
const server = await startServer({ apiKeys: [KEY] });
afterAll(() => server[Symbol.asyncDispose]());

const folder = mkdtempSync(join(tmpdir(), "pgquiver-cli-"));

/** Runs a command as a user of the server does. */
const run = (args: string[], { input = "", environment = {} } = {}) =>
  runCommand(args, {
    cwd: folder,
    environment: { PGQUIVER_URL: server.url, PGQUIVER_API_KEY: KEY, ...environment },
    input,
  });

interface Found {
  file_id: string;
  content: [{ text: string }];
}

const parse = (stdout: string) =>
  stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

async function makeStore(id: string): Promise<string> {
  expect(await run(["stores", "create", id, "--id", id])).toMatchObject({ code: 0, stdout: `${id}\n` });
  return id;
}

async function contentsOf(store: string): Promise<Record<string, unknown>[]> {
  const { code, stdout } = await run(["export", store, "--no-embeddings"]);
  expect(code).toBe(0);
  return parse(stdout);
}

test("stores are made, listed, shown and deleted", async () => {
  await makeStore("made");
  const { stdout } = await run(["stores", "list"]);
  expect(stdout).toMatch(/^made +made +0 +0 B /m);
  expect(parse((await run(["--json", "stores", "show", "made"])).stdout)).toMatchObject([
    { id: "made", name: "made" },
  ]);
  expect(await run(["stores", "delete", "made"])).toMatchObject({ code: 0, stdout: "made is deleted\n" });
  expect(await run(["stores", "show", "made"])).toMatchObject({
    code: 1,
    stderr: "No vector store found with id 'made'.\n",
  });
});

test("rows of NDJSON are loaded once, found, and exported as they were", async () => {
  const store = await makeStore("rows");
  const rows = [
    { id: "a", content: "How to return goods", embedding: [1, 0, 0], metadata: { lang: "en" } },
    { id: "b", text: "Elephants eat bananas\u2028at night", vector: [0, 1, 0], kind: "animal" },
  ];
  const file = write("rows.ndjson", `${rows.map((row) => JSON.stringify(row)).join("\n")}\n`);
  expect(await run(["load", store, file])).toMatchObject({
    code: 0,
    stdout: "2 rows written, 0 skipped, 0 refused\n",
  });
  // The same file again is the same load, which is complete.
  expect(await run(["load", store, file])).toMatchObject({ code: 0 });
  const exported = await contentsOf(store);
  expect(exported).toMatchObject([
    { id: "a", content: "How to return goods", metadata: { lang: "en" } },
    { id: "b", content: "Elephants eat bananas\u2028at night", metadata: { kind: "animal" } },
  ]);
  const output = join(folder, "export.ndjson");
  expect(await run(["export", store, "--output", output])).toMatchObject({ code: 0, stdout: "" });
  const copy = await makeStore("copy");
  expect(await run(["load", copy, output])).toMatchObject({ code: 0 });
  expect(await contentsOf(copy)).toEqual(exported);
  expect(readFileSync(output, "utf8").split("\n")).toHaveLength(3);
});

test("a row that is refused is named by its line, and the others are loaded", async () => {
  const store = await makeStore("refused");
  const input = [
    '{"id":"x","content":"one","embedding":[1,2]}',
    "",
    '{"id":"y","content":"two","embedding":[1,2,3]}',
  ];
  const { code, stdout, stderr } = await run(["load", store, "-"], { input: input.join("\n") });
  expect([code, stdout]).toEqual([3, "1 rows written, 0 skipped, 1 refused\n"]);
  expect(stderr).toMatch(/^Refused row 3 \(id 'y'\): embedding: /m);
  const broken = await run(["load", store, "-"], { input: '{"content": 1}\n' });
  expect(broken).toMatchObject({ code: 1, stderr: expect.stringContaining("row 1 has no text") });
});

test("JSON, CSV and compressed files are read like NDJSON", async () => {
  const store = await makeStore("formats");
  const json = write(
    "rows.json",
    JSON.stringify([{ id: "j", content: 'a "]" {text', embedding: [1, 0], tags: ["x"] }]),
  );
  const csv = write("rows.csv", 'id,text,embedding,page\nc,"a, text","[0,1]",3\n');
  const zipped = write("rows.jsonl.gz", gzipSync('{"id":"z","content":"packed","embedding":[1,1]}\n'));
  for (const file of [json, csv, zipped])
    expect(await run(["load", store, file])).toMatchObject({
      code: 0,
      stdout: "1 rows written, 0 skipped, 0 refused\n",
    });
  expect(await contentsOf(store)).toMatchObject([
    { id: "c", content: "a, text", metadata: { page: "3" } },
    { id: "j", content: 'a "]" {text', metadata: { tags: ["x"] } },
    { id: "z", content: "packed" },
  ]);
  const nameless = await run(["load", store, write("rows.txt", "")]);
  expect(nameless).toMatchObject({ code: 2, stderr: expect.stringContaining("--format") });
});

test("rows of Parquet are read, with columns of every type as metadata", async () => {
  const store = await makeStore("parquet");
  const file = join(folder, "rows.parquet");
  parquetWriteFile({
    filename: file,
    columnData: [
      { name: "id", data: ["p1", "p2"], type: "STRING" },
      { name: "text", data: ["one", "two"], type: "STRING" },
      {
        name: "vector",
        data: [
          [1, 0.5],
          [0, 1],
        ],
        type: "JSON",
      },
      { name: "views", data: [7n, 8n], type: "INT64" },
    ],
  });
  expect(await run(["load", store, file])).toMatchObject({
    code: 0,
    stdout: "2 rows written, 0 skipped, 0 refused\n",
  });
  expect(await contentsOf(store)).toMatchObject([
    { id: "p1", content: "one", metadata: { views: 7 } },
    { id: "p2", content: "two", metadata: { views: 8 } },
  ]);
});

test("a load that was killed goes on where it was, and every row is there once", async () => {
  const store = await makeStore("killed");
  const rows = Array.from({ length: 60_000 }, (_, row) => ({
    id: `r${row}`,
    content: `row ${row}`,
    embedding: [row + 1, 1],
  }));
  const file = write("many.ndjson", rows.map((row) => JSON.stringify(row)).join("\n"));
  const first = spawn(process.execPath, [START, "--url", server.url, "--key", KEY, "load", store, file], {
    cwd: folder,
  });
  const count = async () => {
    const { rows: found } = await server.database.pool.query(
      "select embedding_count::int as rows from vector_stores where id = $1",
      [store],
    );
    return Number(found[0].rows);
  };
  const ended = once(first, "close");
  await expect.poll(count, { interval: 1, timeout: 60_000 }).toBeGreaterThan(0);
  first.kill("SIGKILL");
  await ended;
  expect(await count()).toBeLessThan(60_000);
  const second = await run(["load", store, file]);
  expect(second).toMatchObject({ code: 0, stdout: "60000 rows written, 0 skipped, 0 refused\n" });
  expect(await count()).toBe(60_000);
});

test("files of a folder are searchable when the command ends, and one that cannot be read is named", async () => {
  const store = await makeStore("files");
  mkdirSync(join(folder, "docs/deep"), { recursive: true });
  write("docs/returns.md", "Goods can be returned within thirty days.");
  write("docs/deep/animals.txt", "Elephants eat bananas.");
  write("docs/broken.pdf", "%PDF-1.7\n\0\0\0");
  const { code, stderr } = await run(["files", "add", store, "docs", "--glob", "**/*.{md,txt,pdf}"]);
  expect(code).toBe(3);
  expect(stderr).toMatch(/^docs\/broken\.pdf: /m);
  expect(stderr).toContain("3 files: 3 uploaded, 2 searchable, 1 failed");
  const found = await run(["search", store, "elephants", "bananas", "-n", "1"]);
  expect(found.stdout).toMatch(/^\d\.\d{3} {2}animals\.txt \(file-\w+\)\nElephants eat bananas\.\n/);
  const [reply] = parse((await run(["--json", "search", store, "returned", "--hybrid"])).stdout);
  expect(reply.data[0].filename).toBe("returns.md");
});

test("a new version of a file takes the old one's place, or the old one stays and says why", async () => {
  const store = await makeStore("versions");
  write("v1.txt", "Elephants eat bananas.");
  expect(await run(["files", "add", store, "v1.txt"])).toMatchObject({ code: 0 });
  const find = async () => {
    const [reply] = parse((await run(["--json", "search", store, "elephants"])).stdout);
    return reply.data.map((hit: Found) => [hit.file_id, hit.content[0].text]);
  };
  const [[old]] = await find();
  write("v2.txt", "Elephants eat grass.");
  const { code, stdout } = await run(["files", "replace", store, old, "v2.txt"]);
  const [, next = ""] = /^(file-\w+) has taken the place of (file-\w+)\n$/.exec(stdout) ?? [];
  expect([code, await find()]).toEqual([0, [[next, "Elephants eat grass."]]]);
  write("v3.pdf", "%PDF-1.7\n\0\0\0");
  const damaged = await run(["files", "replace", store, next, "v3.pdf"]);
  expect([damaged.code, damaged.stderr]).toEqual([
    1,
    expect.stringMatching(`place of ${next}, which stays: \\w`),
  ]);
  expect(await find()).toEqual([[next, "Elephants eat grass."]]);
  const count = async () => {
    const reply = await fetch(`${server.url}/v1/files`, { headers: { authorization: `Bearer ${KEY}` } });
    return ((await reply.json()) as { data: object[] }).data.length;
  };
  const before = await count();
  expect(await run(["files", "replace", store, "file-none", "v2.txt"])).toMatchObject({ code: 1 });
  expect(await count()).toBe(before);
});

test("the state of an index and of the service can be read, by programs too", async () => {
  const store = await makeStore("indexed");
  expect((await run(["index", "status", store, "--watch"])).stdout).toBe("none: 0 rows, index 0 B\n");
  const [index] = parse((await run(["--json", "index", "status", store])).stdout);
  expect(index).toMatchObject({ object: "vector_store.index", state: "none" });
  const [status] = parse((await run(["--json", "status"])).stdout);
  expect(status).toMatchObject({ url: server.url, ready: true });
});

test("a store is embedded again with the model that is meant, watched, and cancelled", async () => {
  await using working = await startServer({ indexes: { isWorking: true }, indexPollMs: 50 });
  const send = jsonClient(working.url);
  const given = { content: "Elephants eat bananas", embedding: [1, 2] };
  for (const [id, at] of [
    ["again", working.url],
    ["waits", server.url],
  ] as const) {
    const environment = { PGQUIVER_URL: at };
    expect(await run(["stores", "create", "--id", id], { environment })).toMatchObject({ code: 0 });
    await jsonClient(at, KEY)("POST", `/v1/vector_stores/${id}/embeddings`, given);
  }
  const environment = { PGQUIVER_URL: working.url };
  const model = LEXICAL_MODEL;
  const other = await run(["stores", "reembed", "again", "--model", "other"], { environment });
  expect(other).toMatchObject({ code: 1, stderr: expect.stringContaining("other") });
  expect((await send("GET", "/v1/vector_stores/again/reembedding")).status).toBe(404);
  const watched = await run(["stores", "reembed", "again", "--model", model, "--watch"], { environment });
  expect(watched).toMatchObject({ code: 0, stdout: `completed: 1 of 1 rows with ${model}\n` });
  const again = await run(["stores", "reembed", "again"], { environment });
  expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining("already") });
  // The other server has no worker, so that there is something to be cancelled.
  const [begun] = parse((await run(["--json", "stores", "reembed", "waits"])).stdout);
  expect(begun).toMatchObject({ status: "in_progress", rows: 1, rows_embedded: 0 });
  const ended = await run(["stores", "reembed", "waits", "--cancel", "--watch"]);
  expect(ended).toMatchObject({ code: 0, stdout: `cancelled: 0 of 1 rows with ${model}\n` });
});

test("the key's rights can be read, by programs too", async () => {
  const { code, stdout } = await run(["whoami"]);
  expect(code).toBe(0);
  expect(stdout.split("\n")).toEqual([
    "caller   environment key env_1",
    "project  default (Default project)",
    expect.stringMatching(/^scopes {3}stores\.read /),
    "stores   all",
    "expires  never",
    "limits   none",
    "",
  ]);
  const [caller] = parse((await run(["--json", "whoami"])).stdout);
  expect(caller).toMatchObject({ object: "organization.caller", kind: "environment_key", all_stores: true });
});

test("wrong usage, a wrong key and a service that is away are told apart", async () => {
  expect(await run(["stroes"])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("Did you mean stores?"),
  });
  expect(await run(["search", "x", "y", "-n", "0"])).toMatchObject({ code: 2 });
  expect(await run(["search", "x", "y", "--filters", "{"])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("JSON object"),
  });
  const keyless = await run(["stores", "list"], { environment: { PGQUIVER_API_KEY: "wrong" } });
  expect(keyless).toMatchObject({ code: 1, stderr: expect.stringContaining("PGQUIVER_API_KEY has the key") });
  const away = await run(["stores", "list"], { environment: { PGQUIVER_URL: "127.0.0.1:1" } });
  expect(away).toMatchObject({ code: 1, stderr: expect.stringContaining("cannot be reached") });
});

test("a shell completes commands and options", async () => {
  const { stdout } = await run(["completion", "bash"]);
  const script = `${stdout}
complete_of() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pgquiver; echo "\${COMPREPLY[*]}"; }
complete_of pgquiver sto; complete_of pgquiver stores cr; complete_of pgquiver load x y --mo`;
  const bash = spawn("bash", ["-c", script], { cwd: folder });
  expect((await readText(bash.stdout)).split("\n")).toEqual(["stores", "create", "--mode", ""]);
});
