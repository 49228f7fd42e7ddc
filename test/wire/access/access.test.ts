import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import OpenAI from "openai";
import { afterAll, describe, expect, test } from "vitest";
import { makeKey } from "../../../src/access/key.ts";
import { protocols } from "../../support/clients/clients.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { send } from "../../support/clients/http.ts";
import { startServer } from "../../support/servers/server.ts";

const root = "a-key-of-the-environment";
const database = await openTestDatabase();
const server = await startServer({ database, apiKeys: [root] });
const replica = await startServer({ database, apiKeys: [root] });
afterAll(async () => {
  await replica[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await database.close();
});

const projects = `${server.url}/v1/organization/projects`;

async function ask(verb: string, path: string, body?: object, key = root) {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const reply = await send(projects + path, verb, body && JSON.stringify(body), headers);
  return { status: reply.status, body: JSON.parse(reply.text) };
}

async function makeProject(name = "Search team"): Promise<string> {
  const { body } = await ask("POST", "", { name });
  return body.id;
}

async function makeApiKey(projectId: string, scopes: string[], more: object = {}, by = root) {
  const asked = { name: "k", scopes, ...more };
  const { status, body } = await ask("POST", `/${projectId}/api_keys`, asked, by);
  expect(status, JSON.stringify(body)).toBe(200);
  return body as { id: string; value: string };
}

const list = (url: string, key: string, headers: Record<string, string> = {}) =>
  send(`${url}/v1/vector_stores`, "GET", undefined, { authorization: `Bearer ${key}`, ...headers });

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());
  const byRoot = { key: root };

  test("projects and keys are made, read, listed and ended", async () => {
    const project = await call("AccessService/CreateProject", { name: "Team" }, byRoot);
    expect(project).toMatchObject({
      id: expect.stringMatching(/^proj_[0-9a-f]{32}$/),
      object: "organization.project",
      name: "Team",
      archived_at: null,
      status: "active",
    });
    const of = { project_id: project.id };
    expect(await call("AccessService/GetProject", of, byRoot)).toEqual(project);
    const asked = { ...of, name: "reader", scopes: ["stores.read", "search"], store_ids: ["faq"] };
    const made = await call("AccessService/CreateApiKey", asked, byRoot);
    expect(made).toMatchObject({
      id: expect.stringMatching(/^key_[0-9a-f]{32}$/),
      object: "organization.project.api_key",
      value: expect.stringMatching(/^pgq_[0-9A-Za-z]{49}$/),
      scopes: ["stores.read", "search"],
      store_ids: ["faq"],
      last_used_at: null,
      expires_at: null,
      owner: { type: "service_account" },
    });
    expect(made.redacted_value).toBe(`${made.value.slice(0, 8)}...${made.value.slice(-4)}`);
    const listed = await call("AccessService/ListApiKeys", of, byRoot);
    expect(listed).toMatchObject({ object: "list", first_id: made.id, last_id: made.id, has_more: false });
    expect(listed.data).toEqual([{ ...made, value: null }]);
    expect(await call("VectorStoreService/ListVectorStores", {}, { key: made.value })).toMatchObject({
      data: [],
    });
    const one = { ...of, api_key_id: made.id };
    expect(await call("AccessService/DeleteApiKey", one, byRoot)).toEqual({
      id: made.id,
      object: "organization.project.api_key.deleted",
      deleted: true,
    });
    await expect(call("AccessService/GetApiKey", one, byRoot)).rejects.toMatchObject({ code: "not_found" });
    await expect(call("VectorStoreService/ListVectorStores", {}, { key: made.value })).rejects.toMatchObject({
      code: "unauthenticated",
      reason: "INVALID_API_KEY",
    });
    const archived = await call("AccessService/ArchiveProject", of, byRoot);
    expect(archived).toMatchObject({ status: "archived", archived_at: expect.any(Number) });
  });

  test("a key is changed where the mask says so", async () => {
    const of = { project_id: await makeProject() };
    const asked = { ...of, name: "k", scopes: ["search", "stores.read"], store_ids: ["a"] };
    const made = await call("AccessService/CreateApiKey", { ...asked, expires_in_seconds: 600 }, byRoot);
    const of1 = { ...of, api_key_id: made.id };
    const change = (fields: object) => call("AccessService/UpdateApiKey", { ...of1, ...fields }, byRoot);
    const read = () => call("AccessService/GetApiKey", of1, byRoot);
    const before = await read();
    const account = { ...before.owner.service_account, name: "renamed" };
    const renamed = { ...before, name: "renamed", owner: { ...before.owner, service_account: account } };
    expect(await change({ name: "renamed" })).toEqual(renamed);
    expect((await call("VectorStoreService/ListVectorStores", {}, { key: made.value })).data).toEqual([]);
    const changed = await change({ scopes: ["search"], store_ids: [], expires_in_seconds: null });
    expect(changed).toEqual({
      ...renamed,
      scopes: ["search"],
      store_ids: [],
      expires_at: null,
      last_used_at: changed.last_used_at,
    });
    await expect(call("VectorStoreService/ListVectorStores", {}, { key: made.value })).rejects.toMatchObject({
      reason: "MISSING_SCOPE",
    });
    expect((await change({ expires_in_seconds: 60 })).expires_at).toBeGreaterThan(Date.now() / 1000);
    expect(await read()).toMatchObject({ name: "renamed", scopes: ["search"], store_ids: [] });
  });

  test("a scope that the key lacks is named", async () => {
    const { value: key } = await makeApiKey(await makeProject(), ["search"]);
    await expect(call("VectorStoreService/ListVectorStores", {}, { key })).rejects.toMatchObject({
      code: "permission_denied",
      reason: "MISSING_SCOPE",
      message: "You have insufficient permissions for this operation. Missing scopes: stores.read.",
    });
  });
});

describe("a key", () => {
  test("is stored as its SHA-256 and nothing else", async () => {
    const { id, value } = await makeApiKey("default", ["search"]);
    const { rows } = await database.pool.query(
      `select key::text as row, digest from ${database.tables.apiKeys} as key where id = $1`,
      [id],
    );
    expect(rows[0].row).not.toContain(value);
    expect(rows[0].digest).toEqual(createHash("sha256").update(value).digest());
  });

  test("that is revoked by one process is refused by another within a second", async () => {
    const project = await makeProject();
    const { id, value } = await makeApiKey(project, ["stores.read"]);
    expect((await list(replica.url, value)).status).toBe(200);
    expect((await ask("DELETE", `/${project}/api_keys/${id}`)).status).toBe(200);
    const revokedAt = performance.now();
    expect((await list(server.url, value)).status).toBe(401);
    while ((await list(replica.url, value)).status === 200)
      expect(performance.now() - revokedAt).toBeLessThan(1_500);
  });

  test("that is new works in another process that was asked for it before, within a second", async () => {
    const project = await makeProject();
    const key = makeKey();
    expect((await list(replica.url, key.value)).status).toBe(401);
    const sql = `insert into ${database.tables.apiKeys} (id, project_id, name, digest, redacted, scopes)
      values ($1, $2, 'k', $3, '', '{stores.read}')`;
    await database.pool.query(sql, [`key_${key.redacted}`, project, key.digest]);
    const madeAt = performance.now();
    while ((await list(replica.url, key.value)).status === 401)
      expect(performance.now() - madeAt).toBeLessThan(1_500);
  });

  test("that expires is refused from then on", async () => {
    const { id, value } = await makeApiKey(await makeProject(), ["stores.read"], { expires_in_seconds: 60 });
    expect((await list(server.url, value)).status).toBe(200);
    const sql = `update ${database.tables.apiKeys} set expires_at = now() where id = $1`;
    await database.pool.query(sql, [id]);
    const expiredAt = performance.now();
    while ((await list(server.url, value)).status === 200)
      expect(performance.now() - expiredAt).toBeLessThan(1_500);
  });

  test("of an archived project is refused", async () => {
    const project = await makeProject();
    const { value } = await makeApiKey(project, ["stores.read"]);
    expect((await list(server.url, value)).status).toBe(200);
    expect((await ask("POST", `/${project}/archive`)).status).toBe(200);
    expect((await list(server.url, value)).status).toBe(401);
    expect((await ask("POST", `/${project}/api_keys`, { name: "k", scopes: ["search"] })).status).toBe(400);
  });

  test("takes OpenAI-Project with its own project only, and any OpenAI-Organization", async () => {
    const project = await makeProject();
    const { value } = await makeApiKey(project, ["stores.read"]);
    const headers = { "openai-organization": "org-1", "openai-project": project };
    expect((await list(server.url, value, headers)).status).toBe(200);
    const other = await list(server.url, value, { "openai-project": "default" });
    expect(other.status).toBe(401);
    expect(JSON.parse(other.text)).toMatchObject({
      error: {
        code: "mismatched_project",
        message: "OpenAI-Project header should match project for API key",
      },
    });
    // As before there were projects: clients send what their environment says.
    expect((await list(server.url, root, { "openai-project": "proj_of_openai" })).status).toBe(200);
  });

  test("cannot make a key that may do more than itself", async () => {
    const project = await makeProject();
    const { value } = await makeApiKey(project, ["projects.admin", "search"], { store_ids: ["a", "b"] });
    const attempt = (scopes: string[], store_ids: string[]) =>
      ask("POST", `/${project}/api_keys`, { name: "k", scopes, store_ids }, value);
    expect(await attempt(["search"], ["a"])).toMatchObject({ status: 200 });
    for (const [scopes, ids] of [
      [["search", "stores.read"], ["a"]],
      [["search"], ["a", "c"]],
      [["search"], []],
    ] as [string[], string[]][])
      expect(await attempt(scopes, ids)).toMatchObject({
        status: 403,
        body: { error: { code: "missing_scope" } },
      });
  });

  test("cannot give a key, and not itself, more than it has, nor a longer life to one that has more", async () => {
    const project = await makeProject();
    const made = await makeApiKey(project, ["projects.admin", "search"], { store_ids: ["a"] });
    const strong = await makeApiKey(project, ["stores.write"]);
    const weak = await makeApiKey(project, ["search"], { store_ids: ["a"] });
    const change = (id: string, fields: object) =>
      ask("POST", `/${project}/api_keys/${id}`, fields, made.value);
    const refused = { status: 403, body: { error: { code: "missing_scope" } } };
    expect(await change(made.id, { scopes: ["projects.admin", "stores.read"] })).toMatchObject(refused);
    expect(await change(weak.id, { store_ids: ["a", "b"] })).toMatchObject(refused);
    expect(await change(weak.id, { store_ids: [] })).toMatchObject(refused);
    expect(await change(strong.id, { expires_in_seconds: 600 })).toMatchObject(refused);
    expect(await change(strong.id, { scopes: ["search"] })).toMatchObject(refused);
    expect(await change(strong.id, { name: "renamed" })).toMatchObject({ status: 200 });
    expect(await change(weak.id, { scopes: ["search", "projects.admin"] })).toMatchObject({ status: 200 });
    expect(await change(weak.id, { scopes: ["operator"] })).toMatchObject({ status: 400 });
    expect(await change(weak.id, { scopes: [] })).toMatchObject({ status: 400 });
    expect(await change(weak.id, { value: "x" })).toMatchObject({ status: 400 });
    expect(await change("key_none", { name: "x" })).toMatchObject({ status: 404 });
  });

  test("of another project sees no project but its own", async () => {
    const [own, other] = [await makeProject("own"), await makeProject("other")];
    const { value } = await makeApiKey(own, ["projects.admin"]);
    const { id: foreign } = await makeApiKey(other, ["search"]);
    const listed = await ask("GET", "?include_archived=true", undefined, value);
    expect(listed.body.data.map(({ id }: { id: string }) => id)).toEqual([own]);
    const none = await ask("GET", "/proj_none", undefined, value);
    const hidden = await ask("GET", `/${other}`, undefined, value);
    expect(hidden.status).toBe(404);
    expect(JSON.stringify(hidden.body).replace(other, "proj_none")).toBe(JSON.stringify(none.body));
    for (const path of [`/${other}/api_keys/${foreign}`, `/${own}/api_keys/${foreign}`])
      expect((await ask("DELETE", path, undefined, value)).status).toBe(404);
    expect((await ask("POST", "", { name: "x" }, value)).status).toBe(403);
    expect((await ask("POST", `/${own}/archive`, {}, value)).status).toBe(403);
    expect((await ask("POST", `/${own}`, { name: "renamed" }, value)).body).toMatchObject({
      name: "renamed",
    });
  });
});

test.each([
  [{ name: "", scopes: ["search"] }, "name"],
  [{ name: "k", scopes: [] }, "scopes"],
  [{ name: "k", scopes: ["stores.delete"] }, "scopes[0]"],
  [{ name: "k", scopes: ["operator"] }, "scopes"],
  [{ name: "k", scopes: ["search"], store_ids: ["a/b"] }, "store_ids[0]"],
  [{ name: "k", scopes: ["search"], expires_in_seconds: 59 }, "expires_in_seconds"],
])("a key is not made by %j", async (asked, param) => {
  const reply = await ask("POST", `/${await makeProject()}/api_keys`, asked);
  expect(reply).toMatchObject({ status: 400, body: { error: { param } } });
});

test("the default project stays", async () => {
  expect(await ask("GET", "/default")).toMatchObject({ status: 200, body: { id: "default" } });
  expect(await ask("POST", "/default/archive")).toMatchObject({ status: 400 });
});

test("OpenAI's client reads and ends what there is", async () => {
  const client = new OpenAI({ baseURL: `${server.url}/v1`, adminAPIKey: root, apiKey: root });
  const { projects: all } = client.admin.organization;
  const project = await all.create({ name: "By the SDK" });
  const first = await makeApiKey(project.id, ["search"]);
  const second = await makeApiKey(project.id, ["search"]);
  const ids: string[] = [];
  for await (const key of all.apiKeys.list(project.id, { limit: 1 })) ids.push(key.id);
  expect(ids).toEqual([second.id, first.id]);
  expect(await all.apiKeys.delete(first.id, { project_id: project.id })).toMatchObject({ deleted: true });
  expect(await all.update(project.id, { name: "Renamed" })).toMatchObject({ name: "Renamed" });
  expect(await all.archive(project.id)).toMatchObject({ status: "archived" });
  const names: (string | null | undefined)[] = [];
  for await (const { name } of all.list({ include_archived: true, limit: 2 })) names.push(name);
  expect(names).toContain("Renamed");
});

test("the last use of a key is noted", async () => {
  const own = await openTestDatabase();
  const first = await startServer({ database: own, apiKeys: [root] });
  const headers = { authorization: `Bearer ${root}`, "content-type": "application/json" };
  const url = `${first.url}/v1/organization/projects/default/api_keys`;
  const made = await send(url, "POST", '{"name":"k","scopes":["stores.read"]}', headers);
  expect((await list(first.url, JSON.parse(made.text).value)).status).toBe(200);
  await first.stop(0);
  const { rows } = await own.pool.query(`select last_used_at from ${own.tables.apiKeys}`);
  expect(rows).toEqual([{ last_used_at: expect.any(Date) }]);
  await own.close();
});

test("a database that is away makes keys unavailable, never wrong", async () => {
  const own = await openTestDatabase();
  const lonely = await startServer({ database: own, apiKeys: [root] });
  const headers = { authorization: `Bearer ${root}`, "content-type": "application/json" };
  const url = `${lonely.url}/v1/organization/projects/default/api_keys`;
  const made = await send(url, "POST", '{"name":"k","scopes":["embeddings.read"]}', headers);
  const { value } = JSON.parse(made.text) as { value: string };
  const models = (key: string) =>
    send(`${lonely.url}/v1/models`, "GET", undefined, { authorization: `Bearer ${key}` });
  expect((await models(value)).status).toBe(200);
  await own.close();
  expect((await models(makeKey().value)).status).toBe(503);
  const seen = new Set<number>();
  while (!seen.has(503)) seen.add((await models(value)).status);
  expect([...seen].filter((status) => ![200, 503].includes(status))).toEqual([]);
  expect((await models("pgq_no_key_at_all")).status).toBe(401);
  expect((await models(root)).status).toBe(200);
  await lonely.stop(0);
});

test.each(["SearchService/Search", "IngestService/Ingest", "IngestService/IngestSession"])(
  "a call of %s that has no message is answered, also while its key is looked up",
  async (rpc) => {
    const { value } = await makeApiKey("default", ["search", "ingest"]);
    const session = connectHttp2(server.url);
    for (const key of [root, value, value]) {
      const stream = session.request({
        ":method": "POST",
        ":path": `/pgquiver.v1.${rpc}`,
        "content-type": "application/grpc",
        authorization: `Bearer ${key}`,
      });
      stream.end();
      let status: unknown;
      stream.on("response", (head) => (status ??= head["grpc-status"]));
      stream.on("trailers", (trailers) => (status ??= trailers["grpc-status"]));
      await once(stream.resume(), "close");
      expect(Number(status)).toBeGreaterThan(0);
    }
    session.destroy();
  },
);

test("a service without keys needs them once the first was made", async () => {
  await using open = await startServer();
  const made = await send(
    `${open.url}/v1/organization/projects/default/api_keys`,
    "POST",
    '{"name":"first","scopes":["stores.read"]}',
    { "content-type": "application/json" },
  );
  expect((await send(`${open.url}/v1/vector_stores`, "GET")).status).toBe(401);
  expect((await list(open.url, JSON.parse(made.text).value)).status).toBe(200);
});
