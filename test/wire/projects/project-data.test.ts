import { once } from "node:events";
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { afterAll, expect, inject, test } from "vitest";
import { ServicePair } from "../../../scripts/crash/service.ts";
import { tableNames } from "../../../src/postgres/tables.ts";
import type { Reply } from "../../support/clients/client.ts";
import { openTestDatabase, type TestDatabase } from "../../support/databases/database.ts";
import { filePart, form, FORM_TYPE, textPart } from "../../support/clients/form.ts";
import { makeProject, makeTestKey } from "../../support/stores/keys.ts";
import { startServer } from "../../support/servers/server.ts";

const root = "a-key-of-the-environment";
const database = await openTestDatabase();
const server = await startServer({ database, apiKeys: [root] });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
});

const PATIENCE = { timeout: 60_000, interval: 100 };

async function send(url: string, key: string, method: string, path: string, body?: unknown) {
  const isForm = Buffer.isBuffer(body);
  const response = await fetch(`${url}/v1${path}`, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      ...(isForm ? FORM_TYPE : body !== undefined && { "content-type": "application/json" }),
    },
    ...(body !== undefined && { body: isForm ? body : JSON.stringify(body) }),
  });
  return { status: response.status, text: await response.text() };
}

async function ok(...asked: Parameters<typeof send>): Promise<Reply> {
  const reply = await send(...asked);
  expect(reply.status, reply.text).toBe(200);
  return JSON.parse(reply.text);
}

/** Two stores, one with a file in it and one with rows of the caller's vectors, and a file in no store. */
async function fill(url: string, key: string, rows = 250) {
  const upload = async (name: string, content: string) =>
    ok(
      url,
      key,
      "POST",
      "/files",
      form(filePart(content, `filename="${name}"`), textPart("purpose", "assistants")),
    );
  const { id } = await upload("a.txt", "the text of a file ".repeat(40));
  await upload("b.txt", "in no store");
  await ok(url, key, "POST", "/vector_stores", { id: "faq", name: "Questions", metadata: { team: "x" } });
  await ok(url, key, "POST", "/vector_stores/faq/embeddings", {
    id: "own",
    content: "a text",
    metadata: { n: 1 },
  });
  await ok(url, key, "POST", "/vector_stores/faq/files", { file_id: id, attributes: { year: 2024 } });
  await expect
    .poll(async () => (await ok(url, key, "GET", `/vector_stores/faq/files/${id}`)).status, PATIENCE)
    .toBe("completed");
  await ok(url, key, "POST", "/vector_stores", { id: "vectors", dimensions: 3 });
  const embeddings = Array.from({ length: rows }, (_, index) => ({
    id: `row-${index}`,
    content: `text ${index} – ü`,
    embedding: [1, index, -0.5],
    metadata: { index, nested: { list: [1, null] } },
    created_at: 1_700_000_000 + index,
  }));
  await ok(url, key, "POST", "/vector_stores/vectors/embeddings/batch", { embeddings });
}

async function read(url: string, key: string, project: string): Promise<Reply[]> {
  const { status, text: lines } = await send(url, key, "GET", `/organization/projects/${project}/export`);
  expect(status, lines).toBe(200);
  return lines
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Reply);
}

/** What an export says, but for the ids of files, which a load makes anew, and for times that it sets. */
function comparable(items: Reply[]): string[] {
  const files = items.filter(({ file }) => file !== undefined).map(({ file }) => file.id as string);
  return items
    .filter(({ project }) => project === undefined)
    .map((item) => {
      let line = JSON.stringify(item, (name, value: unknown) =>
        ["last_active_at", "embedding_model"].includes(name) ? undefined : value,
      );
      if (item.row?.file_id === null) return line;
      for (const [index, id] of files.entries()) line = line.replaceAll(id, `file ${index}`);
      return line.replace(/"created_at":\d+/g, '"created_at":0');
    })
    .toSorted();
}

/** Rows of a project in all tables but those that say that it was erased, and by whom, counted by SQL. */
async function countAll({ pool, tables }: TestDatabase, project: string): Promise<number> {
  let count = 0;
  for (const name of tableNames(tables)) {
    if (/projects|erasures|audit_log/.test(name)) continue;
    const { rows } = await pool.query(`select count(*)::int as n from "${name}" as t where t::text like $1`, [
      `%${project}%`,
    ]);
    count += rows[0].n as number;
  }
  return count;
}

async function archiveAndErase(url: string, project: string): Promise<Reply> {
  await ok(url, root, "POST", `/organization/projects/${project}/archive`, {});
  const asked = await ok(url, root, "POST", `/organization/projects/${project}/erase`, {});
  expect(asked).toMatchObject({
    object: "organization.project.erasure",
    project_id: project,
    status: "in_progress",
  });
  const erasure = `/organization/projects/${project}/erasure`;
  await expect.poll(async () => (await ok(url, root, "GET", erasure)).status, PATIENCE).toBe("completed");
  return ok(url, root, "GET", erasure);
}

test("a project is exported, erased with a report, and loaded again as it was", async () => {
  const [project, neighbour] = [await makeProject(database), await makeProject(database)];
  const [key, other] = [await makeTestKey(database, project), await makeTestKey(database, neighbour)];
  await fill(server.url, key);
  await fill(server.url, other, 3);
  const neighbours = comparable(await read(server.url, other, neighbour));
  const exported = await read(server.url, key, project);
  expect(exported[0]).toMatchObject({ project: { id: project } });
  expect(exported.at(-1)).toMatchObject({ end: { vector_stores: 2, files: 2, file_bytes: 771 } });
  expect(JSON.stringify(exported.slice(1))).not.toContain(project);
  // A key of the default project reads the same.
  expect(comparable(await read(server.url, root, project))).toEqual(comparable(exported));

  const report = await archiveAndErase(server.url, project);
  const rows = exported.at(-1)?.end?.rows as number;
  expect(report).toMatchObject({
    vector_stores: 2,
    rows,
    files: 2,
    file_bytes: 771,
    api_keys: 1,
    remaining_rows: 0,
    last_error: null,
    requested_by: "env_1",
  });
  expect(await countAll(database, project)).toBe(0);
  expect((await send(server.url, key, "GET", "/vector_stores")).status).toBe(401);
  expect(comparable(await read(server.url, other, neighbour))).toEqual(neighbours);

  const target = await makeProject(database);
  const targetKey = await makeTestKey(database, target);
  const loading = spawn(process.execPath, ["scripts/import-project.ts", server.url], {
    env: { ...process.env, PGQUIVER_KEY: targetKey },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const said = Promise.all([text(loading.stdout), text(loading.stderr)]);
  loading.stdin.end(exported.map((item) => `${JSON.stringify(item)}\n`).join(""));
  const [code] = (await once(loading, "exit")) as [number];
  expect(code, (await said)[1]).toBe(0);
  await expect
    .poll(async () => (await ok(server.url, targetKey, "GET", "/vector_stores/faq")).status, PATIENCE)
    .toBe("completed");
  const again = comparable(await read(server.url, targetKey, target)).map((line) =>
    line.replace(/("vector_store":\{.*"created_at":)\d+/, "$10"),
  );
  const before = comparable(exported).map((line) =>
    line.replace(/("vector_store":\{.*"created_at":)\d+/, "$10"),
  );
  expect(again).toEqual(before);
});

test("only who may read and manage a project exports it, and only an archived one is erased", async () => {
  const project = await makeProject(database);
  const [key, foreign] = [
    await makeTestKey(database, project),
    await makeTestKey(database, await makeProject(database)),
  ];
  const listed = await makeTestKey(database, project, undefined, ["faq"]);
  const writer = await makeTestKey(database, project, ["projects.admin", "embeddings.read", "stores.read"]);
  const path = `/organization/projects/${project}`;
  const status = async (who: string, method: string, of: string) =>
    (await send(server.url, who, method, of, method === "POST" ? {} : undefined)).status;
  expect(await status(key, "GET", `${path}/export`)).toBe(200);
  expect(await status(foreign, "GET", `${path}/export`)).toBe(404);
  expect(await status(listed, "GET", `${path}/export`)).toBe(403);
  expect(await status(writer, "GET", `${path}/export`)).toBe(403);
  expect(await status(key, "POST", `${path}/erase`)).toBe(403);
  expect(await status(root, "POST", `${path}/erase`)).toBe(400);
  expect(await status(root, "POST", "/organization/projects/default/erase")).toBe(400);
  expect(await status(root, "GET", `${path}/erasure`)).toBe(404);
  expect(await ok(server.url, key, "GET", "/vector_stores")).toMatchObject({ data: [] });
});

test.runIf(inject("template").kind === "postgres")(
  "an erasure goes on where a killed process has left it",
  async () => {
    const own = await openTestDatabase();
    const environment = { DATABASE_URL: String(own.url), SERVER_API_KEY: root };
    await using one = new ServicePair(environment, false);
    const project = await makeProject(own);
    const key = await makeTestKey(own, project);
    const url = `http://${await one.address()}`;
    await ok(url, key, "POST", "/vector_stores", { id: "large", dimensions: 2 });
    // Three steps of this store, and some of others.
    await own.pool.query(
      `insert into embeddings (vector_store_id, id, content, embedding) select $1, n::text, 'x', '[1,2]' from generate_series(1, 12000) as n`,
      [`${project}/large`],
    );
    await own.pool.query(
      "update vector_stores set embedding_count = 12000, usage_bytes = 12000 where id = $1",
      [`${project}/large`],
    );
    for (let n = 0; n < 20; n++) await ok(url, key, "POST", "/vector_stores", { id: `s${n}` });
    await ok(url, root, "POST", `/organization/projects/${project}/archive`, {});
    await ok(url, root, "POST", `/organization/projects/${project}/erase`, {});
    const counts = async () =>
      (await own.pool.query("select state, vector_stores::int, rows::int, last_error from pgquiver_erasures"))
        .rows[0];
    await expect.poll(async () => (await counts()).rows, { timeout: 30_000, interval: 5 }).toBeGreaterThan(0);
    await one.kill();
    const next = `http://${await one.address()}`;
    await expect.poll(counts, PATIENCE).toMatchObject({ state: "completed", last_error: null });
    expect(await ok(next, root, "GET", `/organization/projects/${project}/erasure`)).toMatchObject({
      vector_stores: 21,
      rows: 12_000,
      usage_bytes: 12_000,
      remaining_rows: 0,
    });
    expect(await countAll(own, project)).toBe(0);
    await own.close();
  },
  120_000,
);
