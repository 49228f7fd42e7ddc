import { create, type DescMethod, type Message } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import OpenAI from "openai";
import type { AuditLogListParams } from "openai/resources/admin/organization/audit-logs";
import { pino } from "pino";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { EmbeddingService } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { auditOf } from "../../../src/api/audit.ts";
import { services as unaryServices } from "../../support/clients/dialect.ts";
import { protocols } from "../../support/clients/clients.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { send } from "../../support/clients/http.ts";
import { makeProject, makeTestKey } from "../../support/stores/keys.ts";
import { start } from "../../support/servers/process.ts";
import { startServer } from "../../support/servers/server.ts";

const root = "a-key-of-the-environment";
const database = await openTestDatabase();
const { pool, tables } = database;
const lines: Record<string, unknown>[] = [];
const log = pino({ level: "error" }, { write: (line) => void lines.push(JSON.parse(line)) });
const server = await startServer({ database, apiKeys: [root], log });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
});

/** The entries since the last test, in order. */
let seen = new Set<string>();
async function entries() {
  const { rows } = await pool.query(`select * from ${tables.auditLog} order by created_at, id`);
  return rows.filter(({ id }) => !seen.has(id));
}
beforeEach(async () => {
  seen = new Set((await pool.query(`select id from ${tables.auditLog}`)).rows.map(({ id }) => id));
  lines.length = 0;
});

/** Waits for entries that are written in batches. */
async function untilEntries(count: number) {
  for (;;) {
    const found = await entries();
    if (found.length >= count) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const ask = async (verb: string, path: string, body?: object, key = root, more = {}) => {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json", ...more };
  const reply = await send(server.url + path, verb, body && JSON.stringify(body), headers);
  return { status: reply.status, headers: reply.headers, body: JSON.parse(reply.text) };
};

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  test("an act is recorded once its reply is there: who, what, to what, from where", async () => {
    const id = `audited-${protocol.name.replaceAll(/\W/g, "")}`;
    await call("VectorStoreService/CreateVectorStore", { id }, { key: root });
    await call("VectorStoreService/DeleteVectorStore", { vector_store_id: id }, { key: root });
    const [created, deleted, ...others] = await entries();
    expect(others).toEqual([]);
    expect(deleted).toMatchObject({
      id: expect.stringMatching(/^audit_[0-9a-f]{32}$/),
      event: "vector_store.deleted",
      project_id: "default",
      actor_id: "env_1",
      resource_id: id,
      outcome: "ok",
      count: 1,
      address: expect.stringContaining("127.0.0.1"),
      request_id: expect.stringMatching(/./),
      rpc: "pgquiver.v1.VectorStoreService/DeleteVectorStore",
      protocol: protocol.name.toLowerCase().startsWith("rest") ? "rest" : expect.any(String),
    });
    expect(created).toMatchObject({ event: "vector_store.created", resource_id: id });
    // Although the level of the log is "error".
    expect(lines.map(({ audit, event, id: entry }) => ({ audit, event, entry }))).toEqual([
      { audit: true, event: "vector_store.created", entry: created.id },
      { audit: true, event: "vector_store.deleted", entry: deleted.id },
    ]);
  });
});

describe("what an entry says", () => {
  test("of a key: its id and what it may do, never the key", async () => {
    const headers = { "x-forwarded-for": "203.0.113.7", "user-agent": "curl/8", "x-request-id": "mine" };
    const asked = { name: "indexer", scopes: ["search"], expires_in_seconds: 3600 };
    const made = await ask("POST", "/v1/organization/projects/default/api_keys", asked, root, headers);
    expect(await entries()).toEqual([
      expect.objectContaining({
        event: "api_key.created",
        resource_id: made.body.id,
        data: {
          project_id: "default",
          name: "indexer",
          scopes: ["search"],
          store_ids: [],
          expires_in_seconds: 3600,
        },
        forwarded_for: "203.0.113.7",
        user_agent: "curl/8",
        request_id: "mine",
      }),
    ]);
    expect(JSON.stringify([await entries(), lines])).not.toContain(made.body.value);
  });

  test("of texts that Postgres cannot store: what it can", async () => {
    const { status } = await ask("POST", "/v1/organization/projects/a%00b", { name: "it's \\ 'q'" });
    expect(status).toBe(404);
    const made = await ask("POST", "/v1/organization/projects", { name: "it's \\ 'q'" });
    await ask("POST", `/v1/organization/projects/${made.body.id}`, { name: "it's \\ $1 'new'" });
    const found = await untilEntries(3);
    expect(found.map(({ event, resource_id: id, data }) => ({ event, id, name: data.name }))).toEqual([
      { event: "project.updated", id: "a\u{fffd}b", name: "it's \\ 'q'" },
      { event: "project.created", id: made.body.id, name: "it's \\ 'q'" },
      { event: "project.updated", id: made.body.id, name: "it's \\ $1 'new'" },
    ]);
  });

  test("of a store of another project: the id that its callers know", async () => {
    const project = await makeProject(database);
    const key = await makeTestKey(database, project);
    await ask("POST", "/v1/vector_stores", { id: "faq" }, key);
    await ask("DELETE", "/v1/vector_stores/faq", undefined, key);
    expect((await entries()).map(({ resource_id: id, project_id: of }) => [id, of])).toEqual([
      ["faq", project],
      ["faq", project],
    ]);
  });
});

const acts = [...unaryServices, FileService].flatMap((service) =>
  service.methods.filter((method) => auditOf(method).isAct),
);

test("every act on what does not exist is recorded as failed, and only so", async () => {
  await using fresh = await startServer({ database, apiKeys: [root] });
  const transport = createGrpcTransport({ baseUrl: fresh.url });
  const changing = acts.filter((method) => !auditOf(method).isCreation);
  expect(changing.length).toBeGreaterThanOrEqual(10);
  await ask("POST", "/v1/vector_stores", { id: "there" });
  for (const method of changing) {
    const request = create(method.input) as Message & Record<string, unknown>;
    for (const { localName, fieldKind, name } of method.input.fields) {
      if (fieldKind !== "scalar") continue;
      if (name.endsWith("_id")) request[localName] = name === "file_id" ? "file-1" : "missing";
      if (name === "name") request[localName] = "a name";
    }
    if (
      method.name === "UpdateEmbedding" ||
      method.name === "DeleteEmbedding" ||
      method.name === "DeleteVectorStoreFile"
    )
      request["vectorStoreId"] = "there";
    if (method.name === "DeleteApiKey") request["projectId"] = "default";
    const headers = { authorization: `Bearer ${root}` };
    await transport.unary(method as DescMethod as never, undefined, 60_000, headers, request).then(
      () => expect.unreachable(method.name),
      () => {},
    );
  }
  const found = (await untilEntries(changing.length + 1)).filter(
    ({ event }) => event !== "vector_store.created",
  );
  const outcomes = new Map(found.map(({ event, outcome }) => [event, outcome]));
  expect(found.length).toBe(changing.length);
  expect(new Set(outcomes.keys())).toEqual(new Set(changing.map((method) => auditOf(method).event)));
  expect([...outcomes.values()]).not.toContain("ok");
});

test("of deletions that share a transaction each has its own entry", async () => {
  await using fresh = await startServer({ database, apiKeys: [root] });
  const client = createClient(EmbeddingService, createGrpcTransport({ baseUrl: fresh.url }));
  const options = { headers: { authorization: `Bearer ${root}` } };
  await ask("POST", "/v1/vector_stores", { id: "shared" });
  const ids = Array.from({ length: 10 }, (_, index) => `row-${index}`);
  const embeddings = ids.map((id) => ({ id, content: id, embedding: [1, 2, 3] }));
  await client.batchCreateEmbeddings({ vectorStoreId: "shared", embeddings } as never, options);
  // Each is deleted twice, and two were never there: fewer calls than one caller may have with one connection.
  const asked = [...ids, "no-1", "no-2"].flatMap((id) => [id, id]);
  const outcomes = await Promise.allSettled(
    asked.map((embeddingId) => client.deleteEmbedding({ vectorStoreId: "shared", embeddingId }, options)),
  );
  expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBe(10);
  const found = (await entries()).filter(
    ({ event, outcome }) => event === "embedding.deleted" && outcome === "ok",
  );
  expect(found.map(({ resource_id: id }) => id)).toEqual(expect.arrayContaining(ids));
  expect(found.length).toBe(10);
});

describe("attempts that are refused", () => {
  test.each([
    ["without a key", undefined, "unauthenticated", null],
    ["with a wrong key", "pgq_wrong", "unauthenticated", null],
    ["without the scope", "search", "permission_denied", expect.stringMatching(/^key_/)],
  ])("%s are recorded over each protocol", async (_case, how, outcome, actor) => {
    const key = how === "search" ? await makeTestKey(database, "default", ["search"]) : how;
    await using fresh = await startServer({ database, apiKeys: [root] });
    for (const protocol of protocols) {
      const client = protocol.connect(fresh);
      const asked = { vector_store_id: "x" };
      const refused = client.call(
        "VectorStoreService/DeleteVectorStore",
        asked,
        key === undefined ? {} : { key },
      );
      await expect(refused, protocol.name).rejects.toMatchObject({ code: outcome });
      await client[Symbol.asyncDispose]();
    }
    const [first, ...others] = await untilEntries(1);
    expect(first).toMatchObject({ event: "vector_store.deleted", outcome, actor_id: actor, count: 1 });
    // Equal ones are counted, see test/unit/wire/audit-refusals.test.ts.
    expect(others).toEqual([]);
  });

  test("are no entries where a read is refused, unless reads are recorded", async () => {
    expect((await ask("GET", "/v1/vector_stores", undefined, "wrong")).status).toBe(401);
    // Written in the order in which they were refused.
    expect((await ask("POST", "/v1/vector_stores", { id: "x" }, "wrong")).status).toBe(401);
    expect((await untilEntries(1)).map(({ event }) => event)).toEqual(["vector_store.created"]);
  });
});

test("with AUDIT_READS reads, searches and writes of data are recorded too", async () => {
  const reading = await startServer({ database, apiKeys: [root], audit: { includesReads: true } });
  const client = new OpenAI({ apiKey: root, baseURL: `${reading.url}/v1`, maxRetries: 0 });
  await send(`${reading.url}/v1/vector_stores`, "POST", '{"id":"read"}', {
    authorization: `Bearer ${root}`,
    "content-type": "application/json",
  });
  await client.vectorStores.retrieve("read");
  await client.vectorStores.search("read", { query: "a word" });
  const file = await client.files.create({ file: new File(["text"], "a.txt"), purpose: "assistants" });
  await (await client.files.content(file.id)).text();
  await expect(client.vectorStores.retrieve("missing")).rejects.toMatchObject({ status: 404 });
  // What waits is written before the shutdown ends.
  await reading[Symbol.asyncDispose]();
  const found = await entries();
  expect(found.map(({ event, resource_id: id, outcome }) => [event, id, outcome])).toEqual([
    ["vector_store.created", "read", "ok"],
    ["get_vector_store", "read", "ok"],
    ["search", "read", "ok"],
    ["upload_file", file.id, "ok"],
    ["get_file_content", file.id, "ok"],
    ["get_vector_store", "missing", "not_found"],
  ]);
});

test("the table refuses changes, and deletions but those of the retention", async () => {
  await ask("POST", "/v1/vector_stores", { id: "kept" });
  for (const change of ["update %t set outcome = 'x'", "delete from %t", "truncate %t"])
    await expect(pool.query(change.replace("%t", tables.auditLog)), change).rejects.toThrow("append-only");
  expect((await entries()).length).toBe(1);
});

describe("GET /v1/organization/audit_logs", () => {
  const openai = (key = root) =>
    new OpenAI({ adminAPIKey: key, apiKey: key, baseURL: `${server.url}/v1`, maxRetries: 0 });

  test("answers OpenAI's client in OpenAI's shape, with its filters and pages", async () => {
    const since = Math.floor(Date.now() / 1000);
    const project = await makeProject(database);
    const asked = { name: "k", scopes: ["search"] };
    const { body } = await ask("POST", `/v1/organization/projects/${project}/api_keys`, asked);
    await ask("DELETE", `/v1/organization/projects/${project}/api_keys/${body.id}`);
    const { auditLogs } = openai().admin.organization;
    const list = await auditLogs.list({ project_ids: [project], effective_at: { gte: since } });
    expect(list.data.map(({ type }) => type)).toEqual(["api_key.deleted", "api_key.created"]);
    expect(list.data[1]).toMatchObject({
      object: "organization.audit_log",
      effective_at: expect.toSatisfy((at) => at >= since),
      project: { id: project },
      actor: { type: "api_key", api_key: { id: "env_1", type: "service_account" } },
      "api_key.created": { id: body.id, data: { scopes: ["search"] } },
      outcome: "ok",
      protocol: "rest",
    });
    const only = async (query: AuditLogListParams) =>
      (await auditLogs.list({ project_ids: [project, "none"], ...query })).data.map(({ type }) => type);
    expect(await only({ event_types: ["api_key.created"] })).toEqual(["api_key.created"]);
    expect(await only({ resource_ids: [body.id], limit: 1 })).toEqual(["api_key.deleted"]);
    expect(await only({ actor_ids: ["somebody"] })).toEqual([]);
    expect(await only({ effective_at: { lt: since } })).toEqual([]);
    const paged: string[] = [];
    for await (const { type } of auditLogs.list({ project_ids: [project], limit: 1 })) paged.push(type);
    expect(paged).toEqual(["api_key.deleted", "api_key.created"]);
    expect(await only({ before: list.data[1]?.id as string })).toEqual(["api_key.deleted"]);
  });

  test("shows a key of another project its own project only", async () => {
    const project = await makeProject(database);
    const key = await makeTestKey(database, project);
    await ask("POST", "/v1/vector_stores", { id: "mine" }, key);
    await ask("POST", "/v1/vector_stores", { id: "theirs" });
    const { auditLogs } = openai(key).admin.organization;
    const seenByKey = (await auditLogs.list()).data;
    expect(seenByKey.map(({ project: of }) => of?.id)).toEqual([project]);
    expect((await auditLogs.list({ project_ids: ["default"] })).data).toEqual([]);
  });

  test.each([
    "effective_at[gt]=x",
    "effective_at[gte]=-1",
    "effective_at[lt]=1e300",
    "limit=0",
    "limit=1&limit=2",
  ])("refuses %s", async (query) => {
    expect((await ask("GET", `/v1/organization/audit_logs?${query}`)).status).toBe(400);
  });

  test("takes 100 ids of a list in the URL, and refuses 101", async () => {
    const listed = (count: number) => Array.from({ length: count }, () => "project_ids[]=p").join("&");
    expect((await ask("GET", `/v1/organization/audit_logs?${listed(100)}`)).status).toBe(200);
    const refused = await ask("GET", `/v1/organization/audit_logs?${listed(101)}`);
    expect(refused.status).toBe(400);
    expect(refused.body.error.message).toContain("Invalid 'project_ids': array too long.");
  });
});

test("an act whose entry cannot be written is not acknowledged", async () => {
  const other = await openTestDatabase();
  const alone = await startServer({ database: other, apiKeys: [root] });
  const headers = { authorization: `Bearer ${root}`, "content-type": "application/json" };
  await send(`${alone.url}/v1/vector_stores`, "POST", '{"id":"stays"}', headers);
  await other.pool.query(`alter table ${other.tables.auditLog} rename to away`);
  const refused = await send(`${alone.url}/v1/vector_stores/stays`, "DELETE", undefined, headers);
  expect(refused.status).toBeGreaterThanOrEqual(500);
  await other.pool.query(`alter table away rename to ${other.tables.auditLog}`);
  // The deletion was rolled back with its entry.
  expect((await send(`${alone.url}/v1/vector_stores/stays`, "GET", undefined, headers)).status).toBe(200);
  await alone[Symbol.asyncDispose]();
  await other.close();
});

test.runIf(database.url !== undefined)(
  "whenever the service is killed, each deletion has its entry, and each entry its deletion (needs a server)",
  async () => {
    const client = (url: string) => createClient(EmbeddingService, createGrpcTransport({ baseUrl: url }));
    const options = { headers: { authorization: `Bearer ${root}` } };
    await ask("POST", "/v1/vector_stores", { id: "killed" });
    const ids = Array.from({ length: 3_000 }, (_, index) => `k-${index}`);
    const embeddings = ids.map((id) => ({ id, content: id, embedding: [1, 2, 3] }));
    await client(server.url).batchCreateEmbeddings({ vectorStoreId: "killed", embeddings } as never, options);
    const environment = {
      DATABASE_URL: String(database.url),
      PORT: "0",
      SERVER_API_KEY: root,
      HOST: "127.0.0.1",
    };
    const acknowledged: string[] = [];
    const waiting = [...ids];
    for (let kill = 1; kill <= 3; kill++) {
      const { child, said, ended } = start(environment);
      const { deleteEmbedding } = client(/http:\S+/.exec(await said(/^Listening/))?.[0] ?? "");
      const until = acknowledged.length + 100 * kill;
      const callers = Array.from({ length: 16 }, async () => {
        for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
          const isDeleted = await deleteEmbedding({ vectorStoreId: "killed", embeddingId: id }, options).then(
            () => true,
            () => false,
          );
          if (isDeleted) acknowledged.push(id);
          if (acknowledged.length >= until) child.kill("SIGKILL");
          if (!isDeleted) return;
        }
      });
      await ended;
      await Promise.all(callers);
    }
    // The transactions of the killed processes that were under way end when the server notices.
    await expect
      .poll(async () => {
        const { rows } = await pool.query(
          `select (select count(*)::int from unnest($1::text[]) as id
             where not exists (select from embeddings e where e.vector_store_id = 'killed' and e.id = id.id)
               and not exists (select from pgquiver_audit_log l where l.resource_id = id.id and l.outcome = 'ok')) as bare,
           (select count(*)::int from pgquiver_audit_log l join embeddings e on e.id = l.resource_id
             where e.vector_store_id = 'killed' and l.event = 'embedding.deleted' and l.outcome = 'ok') as false,
           (select count(*)::int from pgquiver_audit_log l
             where l.resource_id = any($2) and l.event = 'embedding.deleted' and l.outcome = 'ok') as recorded`,
          [ids, acknowledged],
        );
        return rows[0];
      })
      .toEqual({ bare: 0, false: 0, recorded: acknowledged.length });
    expect(acknowledged.length).toBeGreaterThanOrEqual(600);
  },
);
