import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import pg from "pg";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import {
  ErrorInfoSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from "../../../gen/google/rpc/error_details_pb.ts";
import { VectorStoreService } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import type { Limits } from "../../../src/api/rates/limits.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { send } from "../../support/clients/http.ts";
import { makeTestKey } from "../../support/stores/keys.ts";
import { startServer } from "../../support/servers/server.ts";

/** The shares that projects and keys have of the connections to Postgres, of which the pool has 5. */
const root = "a-key-of-the-environment";
const database = await openTestDatabase();
const server = await startServer({ database, apiKeys: [root] });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
});

const json = { "content-type": "application/json" };
const by = (key: string) => ({ authorization: `Bearer ${key}` });
const ask = (key: string, verb: string, path: string, body?: object) =>
  send(`${server.url}/v1${path}`, verb, body && JSON.stringify(body), { ...by(key), ...(body && json) });

/** Makes a project with limits and a store `s` in it, and a key for it with limits of its own. */
async function makeTeam(limits: Limits, ofKey: Limits | null = null) {
  const { text } = await ask(root, "POST", "/organization/projects", { name: "Team", limits });
  const { id } = JSON.parse(text) as { id: string };
  const key = await makeTestKey(database, id, undefined, null, ofKey);
  expect((await ask(key, "POST", "/vector_stores", { id: "s" })).status).toBe(200);
  return { project: id, key };
}

/** Locks the row of a project's store, so that whoever changes the store waits in Postgres. */
async function lockStore(project: string) {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  onTestFinished(() => client.end());
  await client.query("begin");
  await client.query(`select from ${database.tables.vectorStores} where id = $1 for update`, [
    `${project}/s`,
  ]);
  return {
    /** Connections of the service that wait for the lock. */
    waiting: async (): Promise<number> => {
      // Not by the client itself, whose transaction would see the same snapshot each time.
      const { rows } = await database.probe.query(
        `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      );
      return rows.length;
    },
    release: () => client.query("rollback"),
  };
}

const change = (key: string) => ask(key, "POST", "/vector_stores/s", { name: "n" });
const statusesOf = async (replies: readonly Promise<{ status: number }>[]) =>
  (await Promise.all(replies)).map(({ status }) => status);

const native = database.kind === "postgres";

describe.runIf(native)("a project with two of five connections", () => {
  test("leaves the others to other projects, and its further calls wait", async () => {
    const greedy = await makeTeam({ max_connection_percent: 40 });
    const other = await makeTeam({});
    const lock = await lockStore(greedy.project);
    const changes = Array.from({ length: 20 }, () => change(greedy.key));
    await expect.poll(lock.waiting).toBe(2);
    for (let call = 0; call < 20; call++) expect((await change(other.key)).status).toBe(200);
    expect(await lock.waiting()).toBe(2);
    await lock.release();
    expect(await statusesOf(changes)).toEqual(Array(20).fill(200));
  });

  test("is refused once as many calls wait as may, and when a call has waited for 5 seconds", async () => {
    const { project, key } = await makeTeam({ max_connection_percent: 40 });
    const lock = await lockStore(project);
    const held = [change(key), change(key)];
    await expect.poll(lock.waiting).toBe(2);
    // 50 for each of the two, of which one key may have half.
    const waiting = Array.from({ length: 50 }, () => ask(key, "GET", "/vector_stores"));
    const refused = await Promise.any(Array.from({ length: 10 }, () => ask(key, "GET", "/vector_stores")));
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "1"]);
    const message = `Rate limit reached for project '${project}': 40 percent of the connections to Postgres. Please try again in 1s.`;
    expect(JSON.parse(refused.text)).toEqual({
      error: { message, type: "rate_limit_error", param: null, code: "rate_limit_exceeded" },
    });
    const client = createClient(VectorStoreService, createGrpcTransport({ baseUrl: server.url }));
    const error = await client.listVectorStores({}, { headers: by(key) }).then(
      () => expect.unreachable(),
      (reason: unknown) => ConnectError.from(reason),
    );
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
      { reason: "RATE_LIMIT_EXCEEDED", metadata: { limit: "max_connection_percent" } },
    ]);
    expect(error.findDetails(RetryInfoSchema)).toMatchObject([{ retryDelay: { seconds: 1n } }]);
    expect(error.findDetails(QuotaFailureSchema)).toMatchObject([
      { violations: [{ subject: `project:${project}`, description: message }] },
    ]);
    expect(await statusesOf(waiting)).toEqual(Array(50).fill(429));
    await lock.release();
    expect(await statusesOf(held)).toEqual([200, 200]);
    const { text } = await send(`${server.url}/metrics`, "GET", undefined, by(root));
    expect(text).toMatch(/^pgquiver_limited_total\{limit="max_connection_percent"\} \d+$/m);
  });

  test("is bound in its searches before they take the turns of other projects' searches", async () => {
    const greedy = await makeTeam({ max_connection_percent: 20 });
    const other = await makeTeam({});
    const row = { content: "x", embedding: [1, 2] };
    for (const { key } of [greedy, other])
      expect((await ask(key, "POST", "/vector_stores/s/embeddings", row)).status).toBe(200);
    const search = (key: string) => ask(key, "POST", "/vector_stores/s/search", { embedding: [1, 2] });
    // From now on the store's row is cached, so that a search takes its turn at once.
    expect((await search(greedy.key)).status).toBe(200);
    const lock = await lockStore(greedy.project);
    const held = change(greedy.key);
    await expect.poll(lock.waiting).toBe(1);
    const waiting = Array.from({ length: 10 }, () => search(greedy.key));
    for (let call = 0; call < 10; call++) expect((await search(other.key)).status).toBe(200);
    await lock.release();
    expect(await statusesOf([held, ...waiting])).toEqual(Array(11).fill(200));
  });
});

test.runIf(native)("a key has its own share within that of its project", async () => {
  const { project, key } = await makeTeam({ max_connection_percent: 60 }, { max_connection_percent: 20 });
  const colleague = await makeTestKey(database, project);
  const lock = await lockStore(project);
  const own = Array.from({ length: 5 }, () => change(key));
  await expect.poll(lock.waiting).toBe(1);
  const others = Array.from({ length: 5 }, () => change(colleague));
  await expect.poll(lock.waiting).toBe(3);
  // 25 calls may wait for the key's connection, 4 do; its calls wait for that first, so none waits for the project's.
  const more = Array.from({ length: 40 }, () => ask(key, "GET", "/vector_stores"));
  const refused = await Promise.any(more);
  expect(refused.status).toBe(429);
  expect(refused.text).toMatch(/for key 'key_\w+': 20 percent of the connections to Postgres/);
  await lock.release();
  expect(await statusesOf([...own, ...others])).toEqual(Array(10).fill(200));
  await Promise.all(more);
});

test.runIf(native)(
  "calls that wait for a key's connection do not delay what other keys do in the same store",
  async () => {
    const { project, key } = await makeTeam({}, { max_connection_percent: 1 });
    const colleague = await makeTestKey(database, project);
    expect((await ask(key, "POST", "/vector_stores", { id: "t" })).status).toBe(200);
    const add = (by: string, id: string) =>
      ask(by, "POST", "/vector_stores/t/embeddings", { id, content: "x", embedding: [1, 2] });
    const remove = (by: string, id: string) => ask(by, "DELETE", `/vector_stores/t/embeddings/${id}`);
    for (const id of ["a", "b"]) expect((await add(colleague, id)).status).toBe(200);
    const lock = await lockStore(project);
    const held = change(key);
    await expect.poll(lock.waiting).toBe(1);
    // Insertions share transactions, and so do deletions.
    const waiting = [add(key, "c"), add(key, "d"), remove(key, "a")];
    expect(await statusesOf([add(colleague, "e"), remove(colleague, "b")])).toEqual([200, 200]);
    const replies = await Promise.all(waiting);
    for (const { status, text } of replies) {
      expect(status).toBe(429);
      expect(text).toContain("1 percent of the connections");
    }
    await lock.release();
    expect((await held).status).toBe(200);
  },
);

test.runIf(native)(
  "a caller that leaves while its call waits gives the place in the queue back",
  async () => {
    const { project, key } = await makeTeam({ max_connection_percent: 1 });
    const other = await makeTeam({});
    const lock = await lockStore(project);
    const held = change(key);
    await expect.poll(lock.waiting).toBe(1);
    const leaving = new AbortController();
    const create = (id: string) =>
      fetch(`${server.url}/v1/vector_stores`, {
        method: "POST",
        headers: { ...by(key), ...json },
        body: JSON.stringify({ id }),
        signal: leaving.signal,
      });
    const left = Array.from({ length: 25 }, (_, n) => create(`left-${n}`).catch(() => {}));
    /** Asks, and says whether that is refused before another project's call is answered. */
    const probe = async () => {
      const asked = ask(key, "GET", "/vector_stores");
      const others = ask(other.key, "GET", "/vector_stores").then(() => undefined);
      const first = await Promise.race([asked, others]);
      return { asked, isRefused: first?.status === 429 };
    };
    await expect.poll(async () => (await probe()).isRefused).toBe(true);
    leaving.abort();
    await Promise.all(left);
    let last = await probe();
    await expect
      .poll(async () => {
        if (last.isRefused) last = await probe();
        return last.isRefused;
      })
      .toBe(false);
    await lock.release();
    expect((await held).status).toBe(200);
    const { status, text } = await last.asked;
    expect(status).toBe(200);
    expect(JSON.parse(text).data.map(({ id }: { id: string }) => id)).toEqual(["s"]);
  },
);

test.each([
  [{ max_connection_percent: 0 }, "limits.max_connection_percent"],
  [{ max_connection_percent: 101 }, "limits.max_connection_percent"],
])("%j is refused", async (limits, param) => {
  const { status, text } = await ask(root, "POST", "/organization/projects", { name: "Team", limits });
  expect([status, JSON.parse(text).error.param]).toEqual([400, param]);
});
