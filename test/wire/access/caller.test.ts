import { afterAll, describe, expect, test } from "vitest";
import { SCOPE_WORDS } from "../../../src/api/scope.ts";
import { protocols } from "../../support/clients/clients.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { filePart, form, FORM_TYPE, textPart } from "../../support/clients/form.ts";
import { send } from "../../support/clients/http.ts";
import { startIdentityProvider } from "../../support/servers/identity-provider.ts";
import { startServer } from "../../support/servers/server.ts";

/** What the service tells callers about themselves. */
const root = "a-key-of-the-environment";
const database = await openTestDatabase();
const provider = await startIdentityProvider();
const server = await startServer({ database, apiKeys: [root], tokens: provider.settings });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
  await provider[Symbol.asyncDispose]();
});

async function ask(key: string | undefined, verb: string, path: string, body?: object, url = server.url) {
  const reply = await send(`${url}/v1${path}`, verb, body && JSON.stringify(body), {
    ...(key !== undefined && { authorization: `Bearer ${key}` }),
    ...(body && { "content-type": "application/json" }),
  });
  return { status: reply.status, body: JSON.parse(reply.text) };
}

const whoami = (key?: string, url?: string) => ask(key, "GET", "/organization/me", undefined, url);

async function makeTeam(bounds: object = {}) {
  const { body } = await ask(root, "POST", "/organization/projects", { name: "Team", ...bounds });
  const makeKey = async (asked: object) => {
    const path = `/organization/projects/${body.id}/api_keys`;
    const made = await ask(root, "POST", path, { name: "indexer", ...asked });
    expect(made.status, JSON.stringify(made.body)).toBe(200);
    return made.body as { id: string; value: string; expires_at: number };
  };
  return { project: body.id as string, makeKey };
}

/** The quotas of a reply, by name. */
const quotasOf = (body: { quotas: { name: string }[] }) =>
  Object.fromEntries(body.quotas.map(({ name, ...quota }) => [name, quota]));

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  test("a key without any scope for it is told its rights, its limits and its expiry", async () => {
    const limits = { max_requests_per_1_minute: 1_000 };
    const { project, makeKey } = await makeTeam({ limits, quotas: { max_rows: 7 } });
    const asked = { scopes: ["search", "ingest"], expires_in_seconds: 600 };
    const key = await makeKey({ ...asked, limits: { max_concurrent_searches: 3 } });
    const caller = await call("AccessService/GetCaller", {}, { key: key.value });
    expect(caller).toMatchObject({
      object: "organization.caller",
      kind: "api_key",
      id: key.id,
      name: "indexer",
      certificate_subject: null,
      project_id: project,
      project_name: "Team",
      scopes: ["ingest", "search"],
      all_stores: true,
      store_ids: [],
      readers: [],
      expires_at: key.expires_at,
      limits: { max_concurrent_searches: 3, max_requests_per_1_minute: null },
      project_limits: { max_requests_per_1_minute: 1_000, max_concurrent_searches: null },
    });
    expect(quotasOf(caller as never)).toMatchObject({
      max_rows: { max: 7, used: 0 },
      max_stores: { max: null, used: 0 },
    });
  });
});

test("what the project holds is told exactly, and is that of the own project", async () => {
  const { makeKey } = await makeTeam({ quotas: { max_rows: 100, max_bytes: 1_000 } });
  const { value: key } = await makeKey({ scopes: SCOPE_WORDS.filter((word) => word !== "operator") });
  await ask(key, "POST", "/vector_stores", { id: "a" });
  const embeddings = [1, 2, 3].map((n) => ({ content: "é".repeat(n), embedding: [n, 1] }));
  expect((await ask(key, "POST", "/vector_stores/a/embeddings/batch", { embeddings })).status).toBe(200);
  const headers = { authorization: `Bearer ${key}`, ...FORM_TYPE };
  const upload = form(textPart("purpose", "assistants"), filePart("hello"));
  expect((await send(`${server.url}/v1/files`, "POST", upload, headers)).status).toBe(200);
  expect(quotasOf((await whoami(key)).body)).toMatchObject({
    max_stores: { max: null, used: 1 },
    max_rows: { max: 100, used: 3 },
    max_bytes: { max: 1_000, used: 12 },
    max_files: { max: null, used: 1 },
    max_file_bytes: { max: null, used: 5 },
    max_embedding_tokens_per_month: { max: null, used: 0 },
  });
  const other = await (await makeTeam()).makeKey({ scopes: ["search"] });
  expect(quotasOf((await whoami(other.value)).body)).toMatchObject({ max_stores: { max: null, used: 0 } });
});

test("a key for some stores is told which, and not what the whole project holds", async () => {
  const { makeKey } = await makeTeam({ quotas: { max_rows: 7 } });
  const asked = { scopes: ["search"], store_ids: ["b", "a"] };
  const { body } = await whoami((await makeKey(asked)).value);
  expect(body).toMatchObject({ all_stores: false, store_ids: ["a", "b"] });
  expect(quotasOf(body)["max_rows"]).toEqual({ max: 7, used: null });
  const { body: admin } = await whoami(
    (await makeKey({ ...asked, scopes: ["projects.admin", "search"] })).value,
  );
  expect(quotasOf(admin)["max_rows"]).toEqual({ max: 7, used: 0 });
});

test("a token is told its subject, its readers and when it expires", async () => {
  const token = await provider.issue({ scopes: ["search"], claims: { groups: ["staff", "all"] } });
  const { status, body } = await whoami(token);
  expect(status).toBe(200);
  expect(body).toMatchObject({
    kind: "token",
    id: expect.stringMatching(/^jwt:./),
    name: null,
    project_id: "default",
    scopes: ["search"],
    readers: ["all", "staff"],
    limits: null,
  });
  const { exp } = JSON.parse(Buffer.from(token.split(".")[1] as string, "base64url").toString());
  expect(body.expires_at).toBe(exp);
  expect(quotasOf(body)["max_rows"]).toEqual({ max: null, used: null });
});

test("keys of the environment and callers without a key are told so", async () => {
  const { body } = await whoami(root);
  expect(body).toMatchObject({ kind: "environment_key", id: "env_1", name: null, scopes: SCOPE_WORDS });
  expect(body).toMatchObject({ project_id: "default", expires_at: null, project_limits: null });
  await using open = await startServer();
  expect((await whoami(undefined, open.url)).body).toMatchObject({ kind: "anonymous", id: null });
});

test("a scope that any caller has can be given to no key, and unknown keys are told nothing", async () => {
  const { project } = await makeTeam();
  const path = `/organization/projects/${project}/api_keys`;
  const { status, body } = await ask(root, "POST", path, { name: "k", scopes: ["any"] });
  expect([status, body.error.param]).toEqual([400, "scopes[0]"]);
  expect((await whoami("wrong")).status).toBe(401);
  expect((await whoami()).status).toBe(401);
});
