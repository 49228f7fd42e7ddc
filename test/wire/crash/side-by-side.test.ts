import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type pg from "pg";
import { expect, inject, onTestFinished, test } from "vitest";
import { compare, type Loaded } from "../../../scripts/crash/check.ts";
import { load } from "../../../scripts/crash/client.ts";
import { drawPlan } from "../../../scripts/crash/plan.ts";
import { seededRandom, type Random } from "../../../scripts/crash/random.ts";
import { findMigrations, MIGRATIONS } from "../../../src/postgres/migrations/files.ts";
import { citusUrls } from "../../support/databases/citus.ts";
import { openEmptyDatabase } from "../../support/databases/database.ts";
import { filePart, form, FORM_TYPE, textPart } from "../../support/clients/form.ts";
import { send } from "../../support/clients/http.ts";
import { extractLanded } from "../../support/databases/landed.ts";
import { start, type Started } from "../../support/servers/process.ts";

/** Writers per version, how many writes each makes once both versions run, and bulk loads per version. */
const WRITERS = 4;
const WRITES = 60;
const LOADS = 3;
const FILES = 4;

/** A cluster has no row-level security. */
const isCluster = citusUrls() !== undefined;

/** Edited after it had landed, but before checksums were recorded: no database notices. */
const EDITED = ["002_adopt_litellm_pgvector.sql"];

test("the migrations of the last landed version are as they landed", async () => {
  // Versions before 017 have the files beside the code, and later ones in folders.
  const directory = join(await extractLanded(), "src/postgres/migrations/");
  const landed = await findMigrations(pathToFileURL(directory));
  expect(landed.size).toBeGreaterThan(0);
  const now = await findMigrations(MIGRATIONS);
  for (const [name, file] of landed) {
    if (EDITED.includes(name)) continue;
    expect(await readFile(now.get(name) as URL, "utf8")).toBe(await readFile(file, "utf8"));
  }
});

test.runIf(inject("template").kind === "postgres")(
  "this version and the last landed one run side by side, and lose and miscount nothing",
  async () => {
    const database = await openEmptyDatabase();
    onTestFinished(() => database.close());
    const environment = { DATABASE_URL: String(database.url), PORT: "0", DATABASE_POOL_MAX: "6" };
    const old = start(environment, { cwd: await extractLanded() });
    const oldUrl = await findUrl(old);
    await post(oldUrl, "/v1/vector_stores", { id: "rows" });
    await post(oldUrl, "/v1/vector_stores", { id: "files" });
    // From here on the old version is under load: this one migrates meanwhile.
    let newUrl = "";
    const random = seededRandom(7);
    const ledger = new Map<string, string>();
    const urls = [() => oldUrl, () => (newUrl === "" ? oldUrl : newUrl)];
    const writers = urls.flatMap((url, version) =>
      Array.from({ length: WRITERS }, (_, n) =>
        write(url, () => newUrl !== "", `w${version}${n}`, seededRandom(7, 10 * version + n), ledger),
      ),
    );
    // The old version goes on as the owner of the tables, to whom no policy applies.
    const security = isCluster ? "off" : "on";
    const now = start({ ...environment, ROW_LEVEL_SECURITY: security, EMBEDDING__MODEL: "lexical" });
    newUrl = await findUrl(now);
    const loads = urls.flatMap((url, version) =>
      Array.from({ length: LOADS }, (_, n) => bulkLoad(url(), `l${version}${n}`, random)),
    );
    const files = attach(oldUrl, newUrl).then(() => attach(newUrl, oldUrl));
    await Promise.all(writers.slice(0, WRITERS));
    await post(newUrl, "/v1/vector_stores/rows/index", { policy: "always" });
    await Promise.all(writers);
    const loaded = await Promise.all(loads);
    await files;
    await settle(database.pool);
    old.child.kill("SIGTERM");
    expect((await old.ended).code).toBe(0);

    expect(await exportRows(newUrl, "rows")).toEqual(ledger);
    for (const store of loaded) expect(await compare(database.pool, store)).toMatchObject({ problems: [] });
    const { rows: attached } = await database.pool.query(
      "select status, error_message, count(*)::int as files, sum(chunk_count)::int as chunks from pgquiver_vector_store_files group by 1, 2",
    );
    expect(attached).toEqual([
      { status: "completed", error_message: null, files: 2 * FILES, chunks: 2 * FILES },
    ]);
    expect((await exportRows(newUrl, "files")).size).toBe(2 * FILES);
    expect(await findMiscounted(database.pool)).toEqual([]);
    const { rows: stores } = await database.pool.query("select id from vector_stores order by 1");
    expect(stores.map(({ id }) => id)).toEqual(["files", ...loaded.map(({ storeId }) => storeId), "rows"]);
    const { rows: projects } = await database.pool.query(
      "select project_id from vector_stores union select project_id from pgquiver_files",
    );
    expect(projects).toEqual([{ project_id: "default" }]);
    const { rows: migrations } = await database.pool.query(
      "select version from pgquiver_migrations where version = 9",
    );
    expect(migrations).toHaveLength(1);
    for (const { output } of [old, now])
      expect(output.filter((line) => /"level":[56]0/.test(line))).toEqual([]);
  },
);

async function findUrl({ said }: Started): Promise<string> {
  const message = await said(/^Listening on /);
  return /http:\/\/\S+/.exec(message)?.[0] ?? "";
}

/** Sends a request, which must succeed: also while the tables are being migrated. */
async function call(url: string, verb: string, path: string, value?: unknown): Promise<string> {
  const body = value === undefined ? undefined : JSON.stringify(value);
  const { status, text } = await send(`${url}${path}`, verb, body);
  expect(`${verb} ${path}: ${status} ${text}`).toContain(": 200 ");
  return text;
}

const post = async (url: string, path: string, value: unknown) => call(url, "POST", path, value);

/** Writes rows of the store `rows`, each of which `ledger` has once it is acknowledged, and stores that are deleted. */
async function write(
  url: () => string,
  areBoth: () => boolean,
  name: string,
  random: Random,
  ledger: Map<string, string>,
): Promise<void> {
  const path = "/v1/vector_stores/rows/embeddings";
  const own: string[] = [];
  const makeRow = (n: number | string) => ({
    id: `${name}-${n}`,
    content: `text ${n}`,
    embedding: [1, 2, 3],
  });
  const keep = (rows: ReturnType<typeof makeRow>[]) => {
    for (const { id, content } of rows) ledger.set(id, content);
    own.push(...rows.map(({ id }) => id));
  };
  for (let n = 0, left = WRITES; left > 0; n++) {
    if (areBoth()) left--;
    const kind = random.integer(0, 9);
    if (kind === 0 && own.length > 0) {
      const id = own.splice(random.integer(0, own.length - 1), 1)[0] as string;
      await call(url(), "DELETE", `${path}/${id}`);
      ledger.delete(id);
    } else if (kind === 1) {
      const rows = [0, 1, 2, 3, 4].map((part) => makeRow(`${n}.${part}`));
      await post(url(), `${path}/batch`, { embeddings: rows });
      keep(rows);
    } else if (kind === 2) {
      const id = `temporary-${name}-${n}`;
      await post(url(), "/v1/vector_stores", { id });
      await post(url(), `/v1/vector_stores/${id}/embeddings`, makeRow(n));
      await call(url(), "DELETE", `/v1/vector_stores/${id}`);
    } else if (kind === 3) {
      const row = { ...makeRow(n), content: `replaced ${n}` };
      const lines = [makeRow(n), row].map((line) => JSON.stringify(line)).join("\n");
      const type = { "content-type": "application/x-ndjson" };
      const { status, text } = await send(`${url()}${path}/ingest?mode=upsert`, "POST", lines, type);
      expect(`${status} ${text}`).toContain("200 ");
      keep([row]);
    } else {
      await post(url(), path, makeRow(n));
      keep([makeRow(n)]);
    }
  }
}

/** Loads a plan into a store of its own over a gRPC stream. */
async function bulkLoad(url: string, storeId: string, random: Random): Promise<Loaded> {
  await post(url, "/v1/vector_stores", { id: storeId });
  const plan = drawPlan(random, storeId);
  const progress = { sent: () => {}, acknowledged: () => {} };
  const address = async () => url.replace("http://", "");
  return { storeId, plans: [{ plan, summary: await load(address, storeId, plan, progress) }] };
}

/** Uploads files by one version, attaches them by the other, and deletes one of them by the first. */
async function attach(from: string, to: string): Promise<void> {
  const ids: string[] = [];
  for (let n = 0; n <= FILES; n++) {
    const body = form(textPart("purpose", "assistants"), filePart(`a text, the ${n}th, from ${from}`));
    const { text } = await send(`${from}/v1/files`, "POST", body, FORM_TYPE);
    ids.push((JSON.parse(text) as { id: string }).id);
  }
  for (const id of ids) await post(to, "/v1/vector_stores/files/files", { file_id: id });
  await call(from, "DELETE", `/v1/files/${ids[0]}`);
}

/** Waits until no file is in progress, and the store `rows` has its own table and index. */
async function settle(pool: pg.Pool): Promise<void> {
  await expect
    .poll(
      async () =>
        (
          await pool.query(
            `select id from vector_stores where file_counts ->> 'in_progress' <> '0'
             union all select 'rows' where not exists (select from vector_stores where id = 'rows' and index_state = 'ready')
             union all select vector_store_id from pgquiver_indexes where due`,
          )
        ).rows,
    )
    .toEqual([]);
}

/** A store's rows as the service exports them: contents by id. */
async function exportRows(url: string, storeId: string): Promise<Map<string, string>> {
  const text = await call(url, "GET", `/v1/vector_stores/${storeId}/embeddings/export`);
  const rows = text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { id: string; content: string })
    .map(({ id, content }): [string, string] => [id, content]);
  return new Map(rows);
}

/** The stores whose counters differ from their rows. */
async function findMiscounted(pool: pg.Pool): Promise<unknown[]> {
  const { rows } = await pool.query(
    `select * from (
       select id, embedding_count, usage_bytes, (file_counts ->> 'completed')::bigint as completed,
         (select count(*) from embeddings where vector_store_id = vector_stores.id) as rows,
         (select coalesce(sum(octet_length(content)), 0) from embeddings where vector_store_id = vector_stores.id) as bytes,
         (select count(*) filter (where file_id is null) + count(distinct file_id)
          from embeddings where vector_store_id = vector_stores.id) as files
       from vector_stores) as counted
     where (embedding_count, usage_bytes, completed) is distinct from (rows, bytes, files)`,
  );
  return rows;
}
