import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request as httpsRequest } from "node:https";
import type { TLSSocket } from "node:tls";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text as readText } from "node:stream/consumers";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { afterAll, describe, expect, test } from "vitest";
import { VectorStoreService } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { certificate, clientCertificates } from "../../support/servers/certificate.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { makeProject, makeTestKey } from "../../support/stores/keys.ts";
import { startServer } from "../../support/servers/server.ts";

const folder = mkdtempSync(join(tmpdir(), "pgquiver-mtls-"));
const tls = {
  cert: join(folder, "cert.pem"),
  key: join(folder, "key.pem"),
  clientCa: join(folder, "ca.pem"),
};
writeFileSync(tls.cert, certificate.cert);
writeFileSync(tls.key, certificate.key);
writeFileSync(tls.clientCa, certificate.cert);

const database = await openTestDatabase();
const root = await makeTestKey(database, "default");
const project = await makeProject(database);
const server = await startServer({ database, tls, corsOrigins: ["*", "https://page.example"] });
const url = server.url.replace("http:", "https:");
const sessions: Http2SessionManager[] = [];
afterAll(async () => {
  for (const session of sessions) session.abort();
  await server[Symbol.asyncDispose]();
  await database.close();
  rmSync(folder, { recursive: true });
});

type Holder = keyof typeof clientCertificates;

/** Sends a REST request over HTTP/1.1 with a client certificate. */
async function ask(holder: Holder, verb: string, path: string, body?: object, headers: object = {}) {
  const request = httpsRequest(url + path, {
    ...clientCertificates[holder],
    method: verb,
    rejectUnauthorized: false,
    agent: false,
    headers: { ...(body !== undefined && { "content-type": "application/json" }), ...headers },
  });
  request.end(body && JSON.stringify(body));
  const [reply] = await once(request, "response");
  return { status: Number(reply.statusCode), body: JSON.parse(await readText(reply)) };
}

const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

async function bind(subject: string, scopes: string[], projectId = project) {
  const asked = { name: "c", scopes, certificate_subject: subject };
  const path = `/v1/organization/projects/${projectId}/api_keys`;
  return ask("reader", "POST", path, asked, bearer(root));
}

const bound = await bind("spiffe://example.org/indexer", ["stores.read", "stores.write"]);

function transports(holder: Holder): [string, Transport][] {
  const sessionManager = new Http2SessionManager(
    url,
    {},
    { ...clientCertificates[holder], rejectUnauthorized: false },
  );
  sessions.push(sessionManager);
  const options = { baseUrl: url, httpVersion: "2", sessionManager } as const;
  return [
    ["gRPC", createGrpcTransport(options)],
    ["Connect", createConnectTransport({ ...options, useBinaryFormat: false })],
    ["gRPC-Web", createGrpcWebTransport(options)],
  ];
}

test("a key for a certificate has its subject, and nothing to present", async () => {
  expect(bound.status).toBe(200);
  expect(bound.body).toMatchObject({
    id: expect.stringMatching(/^key_/),
    certificate_subject: "spiffe://example.org/indexer",
    redacted_value: "",
    value: null,
  });
});

test("the holder of a certificate is told by which subject it is known", async () => {
  const { body } = await ask("indexer", "GET", "/v1/organization/me");
  expect(body).toMatchObject({
    kind: "client_certificate",
    id: bound.body.id,
    certificate_subject: "spiffe://example.org/indexer",
    project_id: project,
    scopes: ["stores.read", "stores.write"],
  });
});

describe.each(transports("indexer"))("over %s", (_, transport) => {
  const client = createClient(VectorStoreService, transport);

  test("the holder of the certificate has the rights given to its subject", async () => {
    const { id } = await client.createVectorStore({ name: "By certificate" });
    expect((await client.listVectorStores({})).data.map((store) => store.id)).toContain(id);
    const byKey = await client.listVectorStores({}, { headers: bearer(root) });
    expect(byKey.data.map((store) => store.id)).not.toContain(id);
    await client.deleteVectorStore({ vectorStoreId: id });
  });
});

describe.each(transports("reader"))("over %s", (_, transport) => {
  test("the holder of a certificate whose subject has no rights has none", async () => {
    const client = createClient(VectorStoreService, transport);
    const error = await client.listVectorStores({}).catch((one: unknown) => ConnectError.from(one));
    expect(error).toMatchObject({ code: Code.Unauthenticated });
    expect((error as ConnectError).rawMessage).toContain("your client certificate's subject");
  });
});

describe("over REST", () => {
  test("a certificate has the scopes given to it, and a key sent with it counts instead", async () => {
    expect((await ask("indexer", "GET", "/v1/vector_stores")).status).toBe(200);
    const files = await ask("indexer", "GET", "/v1/files");
    expect(files).toMatchObject({ status: 403, body: { error: { code: "missing_scope" } } });
    expect((await ask("indexer", "GET", "/v1/files", undefined, bearer(root))).status).toBe(200);
    expect((await ask("indexer", "GET", "/v1/vector_stores", undefined, bearer("wrong"))).status).toBe(401);
    const basic = { authorization: "Basic eDp5" };
    expect((await ask("indexer", "GET", "/v1/vector_stores", undefined, basic)).status).toBe(401);
  });

  test("a resumed TLS session has the certificate of its first connection", async () => {
    const agent = new Agent({ ...clientCertificates.indexer, rejectUnauthorized: false });
    const get = async () => {
      const request = httpsRequest(`${url}/v1/vector_stores`, { agent, headers: { connection: "close" } });
      request.end();
      const [reply] = await once(request, "response");
      await readText(reply);
      return [reply.statusCode, (request.socket as TLSSocket).isSessionReused()];
    };
    expect(await get()).toEqual([200, false]);
    expect(await get()).toEqual([200, true]);
    agent.destroy();
  });

  test("a common name has rights until they are revoked, and can then be given others", async () => {
    expect((await ask("reader", "GET", "/v1/vector_stores")).status).toBe(401);
    const { body: key } = await bind("CN=reader", ["stores.read"]);
    expect((await ask("reader", "GET", "/v1/vector_stores")).status).toBe(200);
    const again = await bind("CN=reader", ["search"]);
    expect(again).toMatchObject({ status: 409, body: { error: { param: "certificate_subject" } } });
    const path = `/v1/organization/projects/${project}/api_keys/${key.id}`;
    expect((await ask("reader", "DELETE", path, undefined, bearer(root))).status).toBe(200);
    expect((await ask("reader", "GET", "/v1/vector_stores")).status).toBe(401);
    expect((await bind("CN=reader", ["files.read"])).status).toBe(200);
    expect((await ask("reader", "GET", "/v1/vector_stores")).status).toBe(403);
    expect((await ask("reader", "GET", "/v1/files")).status).toBe(200);
  });

  test("neither one of several names nor a name with a comma passes for another's", async () => {
    expect((await ask("forged", "GET", "/v1/vector_stores")).status).toBe(401);
    expect((await ask("forged", "GET", "/v1/files")).status).toBe(401);
  });

  test("a web page of another origin cannot use the certificate that its browser presents", async () => {
    const by = async (headers: object) =>
      (await ask("indexer", "GET", "/v1/vector_stores", undefined, headers)).status;
    expect(await by({ origin: "https://evil.example" })).toBe(403);
    expect(await by({ "sec-fetch-site": "cross-site" })).toBe(403);
    expect(await by({ origin: "https://page.example" })).toBe(200);
    expect(await by({ origin: url })).toBe(200);
    expect(await by({ origin: "https://evil.example", ...bearer(root) })).toBe(200);
  });

  test.each(["reader", "CN=", ":x", "spiffe:", "x".repeat(257)])(
    "refuses the subject %j",
    async (subject) => {
      const answer = await bind(subject, ["search"]);
      expect(answer).toMatchObject({ status: 400, body: { error: { param: "certificate_subject" } } });
    },
  );

  test("only keys of the default project say whose certificate is whose", async () => {
    const admin = await makeTestKey(database, project, ["projects.admin", "search"]);
    const asked = { name: "c", scopes: ["search"], certificate_subject: "CN=payments" };
    const path = `/v1/organization/projects/${project}/api_keys`;
    const answer = await ask("reader", "POST", path, asked, bearer(admin));
    expect(answer).toMatchObject({ status: 403, body: { error: { code: "missing_scope" } } });
  });

  test("its subject is no key, however it is presented", async () => {
    for (const key of ["certificate CN=reader", "CN=reader", "spiffe://example.org/indexer"])
      expect((await ask("forged", "GET", "/v1/files", undefined, bearer(key))).status).toBe(401);
  });
});
