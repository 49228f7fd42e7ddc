import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { json } from "node:stream/consumers";
import { ClientCredentialsProvider } from "@modelcontextprotocol/sdk/client/auth-extensions.js";
import { discoverOAuthProtectedResourceMetadata } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { afterAll, expect, test } from "vitest";
import { startDoorServer } from "../../support/servers/door-server.ts";
import { send } from "../../support/clients/http.ts";
import { startServer } from "../../support/servers/server.ts";

const WELL_KNOWN = "/.well-known/oauth-protected-resource";
const TOOL_SCOPES = ["search", "stores.read", "files.read", "embeddings.read"];

const server = await startDoorServer();
afterAll(() => server[Symbol.asyncDispose]());
const { provider, url } = server;
const audiences = provider.settings.audiences as string[];
// The port is not known before the server has started.
audiences.push(`${url}/mcp`);

/** Reads the metadata of a resource; `host`: what the client calls the server. */
async function metadataOf(path: string, host = new URL(url).host): Promise<Record<string, unknown>> {
  const asked = get(`${url}${WELL_KNOWN}${path}`, { headers: { host } });
  const [reply] = (await once(asked, "response")) as [IncomingMessage];
  return (await json(reply)) as Record<string, unknown>;
}

test("the SDK's client finds the provider by itself, gets a token, and uses the tools with the token's rights", async () => {
  const credentials = new ClientCredentialsProvider({
    clientId: "crawler",
    clientSecret: "a-secret-of-the-client",
    expectedIssuer: provider.issuer,
    // By this grant the SDK asks for the scopes that it is told to.
    scope: (await discoverOAuthProtectedResourceMetadata(`${url}/mcp`)).scopes_supported?.join(" ") ?? "",
  });
  const client = new Client({ name: "test", version: "1" });
  const transport = new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { authProvider: credentials });
  await client.connect(transport as never);
  expect(await client.callTool({ name: "search", arguments: { query: "returns" } })).toMatchObject({
    structuredContent: {
      results: expect.arrayContaining([expect.objectContaining({ title: "handbook.txt" })]),
    },
  });
  await client.close();
  const [, claims = ""] = String(credentials.tokens()?.access_token).split(".");
  expect(JSON.parse(Buffer.from(claims, "base64url").toString())).toMatchObject({
    aud: `${url}/mcp`,
    scope: expect.stringMatching(/^(?=.*search)(?=.*files\.read)(?!.*write)/),
  });
});

test("the metadata name the provider, the scopes and the resource, without a key", async () => {
  expect(await discoverOAuthProtectedResourceMetadata(`${url}/mcp`)).toEqual({
    resource: `${url}/mcp`,
    authorization_servers: [provider.issuer],
    scopes_supported: TOOL_SCOPES,
    bearer_methods_supported: ["header"],
    resource_name: "pgquiver",
  });
  expect(await metadataOf("")).toMatchObject({
    resource: url,
    scopes_supported: expect.arrayContaining([...TOOL_SCOPES, "files.write"]),
  });
});

test("the resource is the audience of the request's host, which a proxy with TLS has told", async () => {
  audiences.push("https://vectors.example.com", "https://other.example.com/mcp", "no URL");
  const resourceAt = async (path: string, host: string) => (await metadataOf(path, host))["resource"];
  expect(await resourceAt("/mcp", "vectors.example.com")).toBe("https://vectors.example.com");
  expect(await resourceAt("/mcp", "vectors.example.com:443")).toBe("https://vectors.example.com");
  expect(await resourceAt("/mcp", "other.example.com")).toBe("https://other.example.com/mcp");
  expect(await resourceAt("", "other.example.com")).toBe("http://other.example.com");
  expect(await resourceAt("/mcp", "third.example.com:8000")).toBe("http://third.example.com:8000/mcp");
  expect(await resourceAt("/mcp", 'a", evil="b')).toBe("http://localhost/mcp");
});

test.each<[string, Record<string, string>, string]>([
  ["without a key", {}, ""],
  ["with a wrong key", { authorization: "Bearer wrong" }, 'error="invalid_token", '],
])("a 401 %s names the metadata", async (_name, headers, error) => {
  const reply = await send(`${url}/mcp`, "POST", "{}", { "content-type": "application/json", ...headers });
  expect([reply.status, reply.headers.get("www-authenticate")]).toEqual([
    401,
    `Bearer ${error}resource_metadata="${url}${WELL_KNOWN}/mcp"`,
  ]);
  const other = await send(`${url}/v1/vector_stores`, "GET", undefined, headers);
  expect(other.headers.get("www-authenticate")).toBe("Bearer");
});

test("without an identity provider there are no metadata, and a 401 names none", async () => {
  await using keyed = await startServer({ apiKeys: ["a-key-of-the-test"] });
  expect((await send(`${keyed.url}${WELL_KNOWN}/mcp`, "GET")).status).toBe(404);
  const reply = await send(`${keyed.url}/mcp`, "POST", "{}", { "content-type": "application/json" });
  expect([reply.status, reply.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
});
