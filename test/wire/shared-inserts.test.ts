import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { expect, inject, onTestFinished, test } from "vitest";
import { seededRandom, type Random } from "../../scripts/crash/random.ts";
import { openDatabase } from "../../src/postgres/connection/pool.ts";
import { quoteTables } from "../../src/postgres/tables.ts";
import { openTestDatabase, type TestDatabase } from "../support/databases/database.ts";
import { send, type HttpAnswer } from "../support/clients/http.ts";
import { startServer } from "../support/servers/server.ts";
import { TEST_LIMITS } from "../support/databases/template.ts";

const native = inject("template").kind === "postgres";

const WRITERS = 16;
const REQUESTS = 12;

/** A request to add rows, and its answer. */
interface Sent {
  rows: { id?: string; content: string; embedding: number[] }[];
  key: string | undefined;
  answer: HttpAnswer;
}

async function insert(url: string, rows: Sent["rows"], key?: string): Promise<Sent> {
  const path = "/v1/vector_stores/vs/embeddings/batch";
  const answer = await send(`${url}${path}`, "POST", JSON.stringify({ embeddings: rows }), {
    "content-type": "application/json",
    ...(key !== undefined && { "idempotency-key": key }),
  });
  return { rows, key, answer };
}

/** A request whose ids may be taken, wholly or in part, and whose dimensions may be wrong. */
function drawRows(random: Random, tag: string): Sent["rows"] {
  const embedding = random.chance(0.1) ? [1, 2] : [1, 2, random.integer(1, 9)];
  const ids = new Set(Array.from({ length: random.pick([1, 1, 1, 3]) }, () => `id${random.integer(0, 400)}`));
  return Array.from(ids, (id, index) => ({
    ...(random.chance(0.7) && { id }),
    content: `${tag}.${index}`,
    embedding,
  }));
}

async function write(url: string, writer: number): Promise<Sent[]> {
  const random = seededRandom(11, writer);
  const sent: Sent[] = [];
  for (let request = 0; request < REQUESTS; request++) {
    const rows = drawRows(random, `${writer}.${request}`);
    const key = random.chance(0.3) ? `key ${writer}.${request}` : undefined;
    sent.push(await insert(url, rows, key));
    // A repeated request is answered like the first one and stores nothing.
    if (key !== undefined) {
      const again = await insert(url, rows, key);
      expect(again.answer.status).toBe(sent.at(-1)?.answer.status);
    }
  }
  return sent;
}

async function readRows(pool: pg.Pool): Promise<Map<string, string>> {
  const { rows } = await pool.query<{ id: string; content: string }>("select id, content from embeddings");
  return new Map(rows.map(({ id, content }) => [content, id]));
}

interface Counts {
  rows: number;
  bytes: number;
  completed: number;
  changes: number;
}

async function readCounts(pool: pg.Pool): Promise<{ store: Counts; table: Omit<Counts, "changes"> }> {
  const { rows: stores } = await pool.query<Counts>(
    `select embedding_count::int as rows, usage_bytes::int as bytes, (file_counts ->> 'completed')::int as completed,
       row_changes::int as changes from vector_stores`,
  );
  const { rows: tables } = await pool.query<Omit<Counts, "changes">>(
    `select count(*)::int as rows, coalesce(sum(octet_length(content)), 0)::int as bytes, count(*)::int as completed
     from embeddings`,
  );
  return { store: stores[0] as Counts, table: tables[0] as Counts };
}

async function serve(database: TestDatabase): Promise<string> {
  const server = await startServer({ database });
  onTestFinished(() => server[Symbol.asyncDispose]());
  return server.url;
}

/** A second service on the same database, with connections of its own. */
async function serveBeside({ url }: TestDatabase): Promise<string> {
  const beside = await openDatabase({ url, tables: quoteTables({}), ...TEST_LIMITS });
  onTestFinished(() => beside.close());
  const server = await startServer({ database: beside });
  onTestFinished(() => server[Symbol.asyncDispose]());
  return server.url;
}

async function openStore(): Promise<TestDatabase> {
  const database = await openTestDatabase();
  onTestFinished(() => database.close());
  await database.pool.query("insert into vector_stores (id) values ('vs')");
  return database;
}

test("each of many writers gets the answer to its own request, and the counts are right", async () => {
  const database = await openStore();
  const first = await serve(database);
  const urls = native ? [first, await serveBeside(database)] : [first];
  await insert(first, [{ content: "fixes the dimensions", embedding: [1, 2, 3] }]);
  const sent = await Promise.all(
    Array.from({ length: WRITERS }, (_, writer) => write(urls[writer % urls.length] as string, writer)),
  ).then((each) => each.flat());

  const stored = await readRows(database.pool);
  const owners = new Map(Array.from(stored, ([content, id]) => [id, content]));
  let acknowledged = 0;
  for (const { rows, answer } of sent) {
    const { status, text } = answer;
    const isWrong = rows.some(({ embedding }) => embedding.length === 2);
    expect([200, isWrong ? 400 : 409]).toContain(status);
    expect(status === 200 && isWrong).toBe(false);
    for (const [index, { id, content }] of rows.entries()) {
      const answered = status === 200 ? JSON.parse(text).data[index].id : undefined;
      expect(stored.get(content)).toBe(answered);
      if (status === 200) expect(id ?? answered).toBe(answered);
    }
    if (status === 409) {
      const taken = rows.filter(({ id, content }) => id !== undefined && owners.get(id) !== content);
      expect(taken.some(({ id }) => owners.has(id as string))).toBe(true);
    }
    if (status === 200) acknowledged++;
  }
  const { store, table } = await readCounts(database.pool);
  expect(store).toMatchObject(table);
  const statuses = new Set(sent.map(({ answer }) => answer.status));
  expect(statuses).toEqual(new Set([200, 400, 409]));
  // Requests have shared transactions.
  expect(store.changes).toBeLessThan(acknowledged);
});

/** Holds the lock of the store's row, so that insertions wait in their transactions. */
async function holdStore(pool: pg.Pool, statement: string): Promise<{ end: (how: string) => Promise<void> }> {
  const client = await pool.connect();
  await client.query("begin");
  await client.query(statement);
  return {
    async end(how) {
      await client.query(how);
      client.release();
    },
  };
}

/** Resolves to the backends that wait for a lock, once there are any. */
async function findWaiting(pool: pg.Pool): Promise<number[]> {
  for (;;) {
    const { rows } = await pool.query<{ pid: number }>(
      "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    if (rows.length > 0) return rows.map(({ pid }) => pid);
    await delay(5);
  }
}

const makeRequests = (count: number) =>
  Array.from({ length: count }, (_, n) => ({
    rows: [{ content: `row ${n}`, embedding: [1, 2, n + 1] }],
    key: `key ${n}`,
  }));

test.runIf(native)("whoever is answered 503 after a killed connection may repeat the request", async () => {
  const database = await openStore();
  const url = await serve(database);
  const held = await holdStore(database.probe, "select 1 from vector_stores for update");
  const requests = makeRequests(12);
  const calls = requests.map(async ({ rows, key }) => insert(url, rows, key));
  for (const pid of await findWaiting(database.probe))
    await database.probe.query("select pg_terminate_backend($1::int)", [pid]);
  const lost = await Promise.any(
    calls.map(async (call) => {
      const sent = await call;
      expect(sent.answer.status).toBe(503);
      return sent;
    }),
  );
  expect(lost.answer.headers.get("retry-after")).not.toBeNull();
  await held.end("rollback");
  for (const { rows, key, answer } of await Promise.all(calls)) {
    expect([200, 503]).toContain(answer.status);
    expect((await insert(url, rows, key)).answer.status).toBe(200);
  }
  const stored = await readRows(database.pool);
  expect(new Set(stored.keys())).toEqual(new Set(requests.map(({ rows }) => rows[0]?.content)));
  const { store, table } = await readCounts(database.pool);
  expect(store).toMatchObject(table);
});

test.runIf(native)("all are told of a store that is deleted while they wait", async () => {
  const database = await openStore();
  const url = await serve(database);
  const held = await holdStore(database.probe, "delete from vector_stores");
  const calls = makeRequests(6).map(async ({ rows }) => insert(url, rows));
  await findWaiting(database.probe);
  await held.end("commit");
  for (const { answer } of await Promise.all(calls)) expect(answer.status).toBe(404);
  expect(await readRows(database.pool)).toEqual(new Map());
});
