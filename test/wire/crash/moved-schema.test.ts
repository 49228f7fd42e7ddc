import { setTimeout as delay } from "node:timers/promises";
import { pino } from "pino";
import { beforeAll, describe, expect, inject, onTestFinished, test } from "vitest";
import { Buckets } from "../../../src/files/buckets.ts";
import { sweepExpired } from "../../../src/vector-stores/expiry-sweeper.ts";
import { openTestDatabase, type TestDatabase } from "../../support/databases/database.ts";
import { applyFuture, CONTRACTION } from "../../support/databases/future-migration.ts";
import { grpcByGrpcJs } from "../../support/clients/grpc-client.ts";
import { send } from "../../support/clients/http.ts";
import { startTestWorker } from "../../support/stores/index-store.ts";
import { connectNode } from "../../support/clients/ingest-client.ts";
import { startServer, type TestServer } from "../../support/servers/server.ts";
import {
  digestTables,
  listWrites,
  prepareWrites,
  request,
  type Write,
} from "../../support/databases/writes.ts";

const MESSAGE =
  "This process is older than the database's schema (migration 900_future): restart it with the newer version.";

/** Changes nothing but who may write. */
const SHUT_OUT = CONTRACTION.split("\n").slice(0, 2).join("\n");

async function serve(): Promise<{ database: TestDatabase; server: TestServer; writes: Write[] }> {
  const database = await openTestDatabase();
  const server = await startServer({ database });
  const prepared = await prepareWrites(server.url, database);
  return { database, server, writes: listWrites(prepared) };
}

/** Runs what the service does in the background: the index worker until it rests, and a sweep. */
async function workInBackground(database: TestDatabase): Promise<unknown[]> {
  const faults: unknown[] = [];
  const { errors, wake, stop } = startTestWorker(database, { thresholdBytes: 1 });
  wake();
  const log = { info: () => {}, warn: (fault: unknown) => faults.push(fault) };
  const never = new AbortController().signal;
  await sweepExpired(database, new Buckets(undefined), { graceSeconds: 0, auditDays: 90 }, log, never);
  const isBusy = async () =>
    errors.length === 0 &&
    (
      await database.pool.query(
        "select from pgquiver_indexes where due union all select from vector_stores where index_policy = 'always' and index_state = 'none'",
      )
    ).rowCount !== 0;
  while (await isBusy()) await delay(20);
  await stop();
  return [...faults, ...errors];
}

test("everything that writes holds the lock that a migration waits for", async () => {
  const { database, server, writes } = await serve();
  onTestFinished(async () => {
    await server[Symbol.asyncDispose]();
    await database.close();
  });
  await database.pool.query(WATCH);
  for (const write of writes) {
    const { status, text } = await request(server.url, write);
    expect(`${write.name}: ${status} ${text}`).toMatch(/: 200 /);
  }
  await send(`${server.url}/v1/vector_stores/vs/search`, "POST", JSON.stringify({ embedding: [1, 2, 3] }));
  const inProgress = "select from vector_stores where file_counts ->> 'in_progress' <> '0'";
  await expect.poll(async () => (await database.pool.query(inProgress)).rowCount).toBe(0);
  expect(await workInBackground(database)).toEqual([]);
  const written = async (isLocked: boolean) => {
    const statement = "select distinct name from watched where is_locked = $1 order by 1";
    const { rows } = await database.pool.query<{ name: string }>(statement, [isLocked]);
    // A table that Citus knows is written to as a shard, whose number follows its name.
    return rows.map(({ name }) => name.replace(/_\d+$/, ""));
  };
  // Each table of the service is written to, so none of its writes goes unwatched. Token usage is written with a delay.
  await expect
    .poll(() => written(true), { timeout: 30_000 })
    .toEqual([
      "embeddings",
      "pgquiver_audit_log",
      "pgquiver_file_batches",
      "pgquiver_file_parts",
      "pgquiver_files",
      "pgquiver_indexes",
      "pgquiver_ingests",
      "pgquiver_reembeddings",
      "pgquiver_removed_files",
      "pgquiver_staged_chunks",
      "pgquiver_token_usage",
      // The table for commits in two phases.
      ...(database.citus === undefined ? [] : ["pgquiver_two_phase"]),
      "pgquiver_uploads",
      "pgquiver_vector_store_files",
      "pgquiver_words",
      "vector_stores",
    ]);
  expect(await written(false)).toEqual([]);
});

/** Notes for each statement that writes whether its transaction holds the lock. */
const WATCH = `
  create table watched (name text, is_locked boolean);
  create function watch() returns trigger language plpgsql security definer as $$ begin
    insert into watched select tg_table_name, exists (
      select from pg_locks where pid = pg_backend_pid() and relation = 'pgquiver_writers_1'::regclass
        and mode = 'AccessShareLock' and granted);
    return null;
  end $$;
  do $$ declare name text; begin
    for name in select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
      and relname not in ('watched', 'pgquiver_migrations', 'pgquiver_writers_1')
    loop
      execute format('create trigger watch after insert or update or delete on %I for each statement execute function watch()', name);
    end loop;
  end $$`;

describe("a process that is older than the database's schema", () => {
  let database: TestDatabase;
  let server: TestServer;
  let writes: Write[];
  let before: Record<string, string>;

  beforeAll(async () => {
    ({ database, server, writes } = await serve());
    await applyFuture(database, SHUT_OUT);
    before = await digestTables(database);
    return async () => {
      await server[Symbol.asyncDispose]();
      await database.close();
    };
  });

  test("refuses every write, and leaves no trace", async () => {
    for (const write of writes) {
      const { status, text, headers } = await request(server.url, write);
      expect(`${write.name}: ${status}`).toBe(`${write.name}: 503`);
      expect(JSON.parse(text)).toEqual({
        error: { message: MESSAGE, type: "server_error", param: null, code: "schema_moved" },
      });
      expect(headers.get("retry-after")).toBe("1");
    }
    expect(await digestTables(database)).toEqual(before);
  });

  test("refuses them over gRPC, where a stream ends without an acknowledgement", async () => {
    await using unary = grpcByGrpcJs.connect(server);
    const row = { vector_store_id: "vs", content: "a", embedding: [1, 2, 3] };
    const failure = { code: "unavailable", reason: "SCHEMA_MOVED", message: MESSAGE };
    await expect(unary.call("EmbeddingService/CreateEmbedding", row)).rejects.toMatchObject(failure);
    await using streams = connectNode.connect(server);
    const session = streams.session();
    await session.send({ open: { vector_store_id: "vs" } });
    await expect(session.next()).rejects.toMatchObject(failure);
    expect(await digestTables(database)).toEqual(before);
  });

  test("does nothing in the background", async () => {
    const errors = await workInBackground(database);
    expect(errors.length).toBeGreaterThan(0);
    expect(await digestTables(database)).toEqual(before);
  });

  test("answers reads", async () => {
    const get = async (path: string) => (await send(`${server.url}/v1/vector_stores${path}`, "GET")).status;
    expect(await get("")).toBe(200);
    expect(await get("/vs")).toBe(200);
    expect(await get("/vs/embeddings/e1")).toBe(200);
    const search = await send(
      `${server.url}/v1/vector_stores/vs/search`,
      "POST",
      JSON.stringify({ embedding: [1, 2, 3] }),
    );
    expect(JSON.parse(search.text).data).toHaveLength(5);
    expect(await digestTables(database)).toEqual(before);
  });

  test("is not ready, and says why", async () => {
    const { status, text } = await send(`${server.url}/readyz`, "GET");
    expect(status).toBe(503);
    expect(JSON.parse(text).error).toMatchObject({ message: MESSAGE, code: "schema_moved" });
    expect((await send(`${server.url}/livez`, "GET")).status).toBe(200);
  });
});

test("nothing is acknowledged after the commit of a migration that contracts", async () => {
  await using database = await openTestDatabase();
  const server = await startServer({ database, log: pino({ level: "silent" }) });
  await send(`${server.url}/v1/vector_stores`, "POST", JSON.stringify({ id: "vs" }));
  const acknowledged: string[] = [];
  const write = async (writer: number) => {
    for (let row = 0; ; row++) {
      const id = `${writer}-${row}`;
      const body = JSON.stringify({ id, content: id, embedding: [1, 2, 3] });
      const { status, text } = await send(`${server.url}/v1/vector_stores/vs/embeddings`, "POST", body);
      if (status !== 200) return `${status} ${text}`;
      acknowledged.push(id);
    }
  };
  const writers = Array.from({ length: inject("template").kind === "postgres" ? 8 : 2 }, (_, n) => write(n));
  await expect.poll(() => acknowledged.length).toBeGreaterThan(20);
  await applyFuture(database);
  for (const end of await Promise.all(writers)) expect(end).toContain(`503 {"error":{"message":"${MESSAGE}`);
  const ids = async (table: string) =>
    (await database.pool.query<{ id: string }>(`select id from ${table}`)).rows.map(({ id }) => id);
  expect((await ids("future_embeddings")).toSorted()).toEqual(acknowledged.toSorted());
  expect(await ids("embeddings")).toEqual([]);
  const { rows } = await database.pool.query("select embedding_count::int as count from vector_stores");
  expect(rows).toEqual([{ count: acknowledged.length }]);
  await server[Symbol.asyncDispose]();
});
