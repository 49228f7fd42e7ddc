import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { create, type DescMethod, type Message } from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { afterAll, describe, expect, test } from "vitest";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { ProjectDataService } from "../../../gen/pgquiver/v1/project_data_pb.ts";
import { scopeOf, SCOPE_WORDS, scopeWord } from "../../../src/api/scope.ts";
import { services as unaryServices } from "../../support/clients/dialect.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { send } from "../../support/clients/http.ts";
import { startIdentityProvider } from "../../support/servers/identity-provider.ts";
import { makeProject, makeTestKey } from "../../support/stores/keys.ts";
import { routesOf } from "../../support/clients/rest-client.ts";
import { startServer } from "../../support/servers/server.ts";

/** Every RPC and route x every key there may be x every protocol: what is allowed works, and nothing else. */
const database = await openTestDatabase();
const provider = await startIdentityProvider();
const server = await startServer({
  database,
  apiKeys: ["a-key-of-the-environment"],
  tokens: provider.settings,
});
const sessions = new Http2SessionManager(server.url);
afterAll(async () => {
  sessions.abort();
  await server[Symbol.asyncDispose]();
  await database.close();
  await provider[Symbol.asyncDispose]();
});

const services = [...unaryServices, FileService, IngestService, ProjectDataService];
const methods = services.flatMap((service) => service.methods);

const { pool, tables } = database;
const other = await makeProject(database);
const change = (key: string, column: string) =>
  pool.query(`update ${tables.apiKeys} set ${column} = now() where digest = sha256($1::bytea)`, [
    Buffer.from(key),
  ]);
/** The keys, each with all rights in the default project unless its name says otherwise. */
const keys = {
  byScope: new Map<string, string>(),
  all: await makeTestKey(database, "default"),
  foreign: await makeTestKey(database, other),
  unlisted: await makeTestKey(database, "default", undefined, ["another"]),
  revoked: await makeTestKey(database, "default"),
  expired: await makeTestKey(database, "default"),
};
for (const word of SCOPE_WORDS) keys.byScope.set(word, await makeTestKey(database, "default", [word]));
/** The tokens, with all scopes in the default project unless their names say otherwise. */
const tokens = {
  all: await provider.issue(),
  search: await provider.issue({ scopes: ["search"] }),
  foreign: await provider.issue({ claims: { pgquiver_project: other } }),
  otherAudience: await provider.issue({ audience: "https://another.example" }),
};
await change(keys.revoked, "revoked_at");
await change(keys.expired, "expires_at");
const headers = { authorization: `Bearer ${keys.all}`, "content-type": "application/json" };
/** Makes the store, which an RPC of the matrix may have deleted. */
const makeStore = () => send(`${server.url}/v1/vector_stores`, "POST", '{"id":"own"}', headers);
const hasStore = async () =>
  (await send(`${server.url}/v1/vector_stores/own`, "GET", undefined, headers)).status === 200;

/** What a call comes to. */
interface Outcome {
  code: "ok" | "unauthenticated" | "permission_denied" | "not_found" | "other";
  message: string;
}

type Ask = (storeId: string, key: string | undefined) => Promise<Outcome>;

const CODES: Partial<Record<Code, Outcome["code"]>> = {
  [Code.Unauthenticated]: "unauthenticated",
  [Code.PermissionDenied]: "permission_denied",
  [Code.NotFound]: "not_found",
};
const STATUSES: Record<number, Outcome["code"]> = {
  200: "ok",
  401: "unauthenticated",
  403: "permission_denied",
  404: "not_found",
};

/** A request of any RPC with the id of a store, and with other ids that exist nowhere. */
function requestOf(method: DescMethod, storeId: string): Message {
  const request = create(method.input) as Message & Record<string, unknown>;
  for (const { localName, fieldKind, name } of method.input.fields) {
    if (fieldKind === "scalar" && name === "vector_store_id") request[localName] = storeId;
    if (name === "file_id") request[localName] = "file-1";
    if (name === "batch_id") request[localName] = "vsfb_1";
  }
  const { open } = method.input.field;
  if (open?.message !== undefined)
    request["message"] = { case: "open", value: create(open.message, { vectorStoreId: storeId } as never) };
  return request;
}

async function* only<T>(message: T) {
  yield message;
}

function overRpc(transport: Transport, method: DescMethod): Ask {
  return async (storeId, key) => {
    const sent = key === undefined ? {} : { authorization: `Bearer ${key}` };
    const request = requestOf(method, storeId);
    try {
      if (method.methodKind === "unary")
        await transport.unary(method as never, undefined, 60_000, sent, request);
      else {
        const reply = await transport.stream(method as never, undefined, 60_000, sent, only(request));
        for await (const _ of reply.message) break;
      }
      return { code: "ok", message: "" };
    } catch (error) {
      const { code, rawMessage } = ConnectError.from(error);
      return { code: CODES[code] ?? "other", message: rawMessage };
    }
  };
}

function overRest(verb: string, template: string): Ask {
  return async (storeId, key) => {
    const names: Record<string, string> = { vector_store_id: storeId, file_id: "file-1", batch_id: "vsfb_1" };
    const path = template.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(names[name] ?? "x"));
    const body = verb === "GET" || verb === "DELETE" ? undefined : "{}";
    const type = path.endsWith("/ingest") ? "application/x-ndjson" : "application/json";
    const sent = {
      ...(body !== undefined && { "content-type": type }),
      ...(key !== undefined && { authorization: `Bearer ${key}` }),
    };
    // A watch goes on for as long as its job, which nobody works on here.
    if (path.endsWith("/watch")) return watchOverRest(server.url + path, sent);
    const reply = await send(server.url + path, verb, body, sent);
    const code = STATUSES[reply.status] ?? "other";
    if (code === "ok") return { code, message: "" };
    const { error } = JSON.parse(reply.text) as { error: { message: string } };
    return { code, message: error.message };
  };
}

/** Leaves a watch that has begun. */
async function watchOverRest(url: string, headers: Record<string, string>): Promise<Outcome> {
  const reply = await fetch(url, { headers });
  const code = STATUSES[reply.status] ?? "other";
  if (code === "ok") {
    await reply.body?.cancel();
    return { code, message: "" };
  }
  const { error } = (await reply.json()) as { error: { message: string } };
  return { code, message: error.message };
}

let cells = 0;

/** Asks with every key, and holds each outcome to what the key allows. */
async function holdTo(ask: Ask, scope: string, namesStore: boolean): Promise<void> {
  const isForSearch = scope === "search" || scope === "any";
  for (const [word, key] of keys.byScope) {
    const outcome = await ask("own", key);
    cells++;
    const message = `You have insufficient permissions for this operation. Missing scopes: ${scope}.`;
    if (word !== scope && scope !== "any")
      expect(outcome, word).toEqual({ code: "permission_denied", message });
    else expect(outcome, word).not.toMatchObject({ code: expect.stringMatching(/^(?:un|perm)/) });
  }
  for (const key of [keys.all, tokens.all, ...(isForSearch ? [tokens.search] : [])]) {
    await makeStore();
    const own = await ask("own", key);
    cells++;
    expect(["unauthenticated", "permission_denied"]).not.toContain(own.code);
    if (namesStore) expect(own.message).not.toMatch(/^No vector store found/);
  }
  if (!isForSearch) {
    expect(await ask("own", tokens.search)).toMatchObject({ code: "permission_denied" });
    cells++;
  }
  await makeStore();
  for (const key of [keys.foreign, keys.unlisted, tokens.foreign]) {
    const [hidden, none] = [await ask("own", key), await ask("none", key)];
    cells++;
    if (namesStore) {
      expect({ ...hidden, message: hidden.message.replaceAll("'own'", "'none'") }).toEqual(none);
      expect(hidden.code).not.toBe("ok");
    } else expect(hidden.code).not.toBe("unauthenticated");
  }
  for (const key of [keys.revoked, keys.expired, `${keys.all}x`, tokens.otherAudience, undefined]) {
    const { code } = await ask("own", key);
    cells++;
    expect(code).toBe("unauthenticated");
  }
  expect(await hasStore()).toBe(true);
}

const namesStore = ({ input }: DescMethod) =>
  input.field["vectorStoreId"] !== undefined || input.field["open"] !== undefined;

const options = { baseUrl: server.url, httpVersion: "2", sessionManager: sessions } as const;
describe.each([
  ["gRPC", createGrpcTransport(options)],
  ["Connect", createConnectTransport({ ...options, useBinaryFormat: false })],
  ["gRPC-Web", createGrpcWebTransport(options)],
] as [string, Transport][])("over %s", (_, transport) => {
  test.each(methods.map((method) => [method.toString(), method] as const))("%s", async (_name, method) => {
    await holdTo(overRpc(transport, method), scopeWord(scopeOf(method)), namesStore(method));
  });
});

describe("over REST", () => {
  const routes = methods.flatMap((method) =>
    routesOf(method).map(
      ({ verb, template }) => [verb, template, scopeWord(scopeOf(method)), namesStore(method)] as const,
    ),
  );
  const others = [["GET", "/metrics", "operator", false]] as const;
  test.each([...routes, ...others])("%s %s needs %s", async (verb, template, scope, isNamed) => {
    if (template === "/metrics") {
      // Its reply is no JSON, and is no store's.
      const status = async (key: string) =>
        (await send(`${server.url}/metrics`, "GET", undefined, { authorization: `Bearer ${key}` })).status;
      for (const [word, key] of keys.byScope) expect(await status(key)).toBe(word === scope ? 200 : 403);
    }
    await holdTo(overRest(verb, template), scope, isNamed);
  });
});

test("has every RPC of the protos, with every key", () => {
  const folder = join(import.meta.dirname, "../../../proto/pgquiver/v1");
  const protos = readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8"));
  expect(methods.length).toBe(protos.join("\n").match(/^ {2}rpc /gm)?.length);
  const calls = methods.length * 3 + methods.flatMap(routesOf).length + 1;
  expect(cells).toBe(calls * (SCOPE_WORDS.length + 11));
});
