import { createHmac } from "node:crypto";
import { request as httpRequest, type ServerResponse } from "node:http";
import { setTimeout } from "node:timers/promises";
import { once } from "node:events";
import { calculateJwkThumbprint, exportSPKI, importJWK, SignJWT, type JWTPayload } from "jose";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { protocols } from "../../support/clients/clients.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { expectError, send, type HttpAnswer } from "../../support/clients/http.ts";
import { startIdentityProvider, type IdentityProvider } from "../../support/servers/identity-provider.ts";
import { makeProject, makeTestKey } from "../../support/stores/keys.ts";
import { startServer, type TestServer, type TestServerOptions } from "../../support/servers/server.ts";

const provider = await startIdentityProvider();
const database = await openTestDatabase();
const server = await startServer({ database, tokens: provider.settings });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
  await provider[Symbol.asyncDispose]();
});

const stores = (token: string, url = server.url) =>
  send(`${url}/v1/vector_stores`, "GET", undefined, { authorization: `Bearer ${token}` });

/** A service and a provider of their own, for tests that change the provider. */
async function startOwn(
  options: TestServerOptions = {},
  settings: Partial<IdentityProvider["settings"]> = {},
): Promise<{ own: IdentityProvider; service: TestServer }> {
  const own = await startIdentityProvider();
  const service = await startServer({ database, tokens: { ...own.settings, ...settings }, ...options });
  onTestFinished(async () => {
    await service[Symbol.asyncDispose]();
    await own[Symbol.asyncDispose]();
  });
  return { own, service };
}

/** Signs claims like the provider, whose own can be replaced. */
async function sign(claims: JWTPayload, header: object = {}): Promise<string> {
  const [jwk] = provider.keys;
  const kid = (await publicKeys())[0]?.kid as string;
  return new SignJWT({
    iss: provider.issuer,
    aud: provider.settings.audiences[0] as string,
    sub: "somebody",
    exp: Math.floor(Date.now() / 1000) + 3_600,
    scope: "stores.read",
    pgquiver_project: "default",
    ...claims,
  })
    .setProtectedHeader({ alg: "RS256", kid, ...header })
    .sign(await importJWK(jwk as never, "RS256"));
}

async function publicKeys(): Promise<{ kid: string; n: string; e: string; kty: string }[]> {
  return ((await (await fetch(provider.jwksUrl)).json()) as { keys: never[] }).keys;
}

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());
  const list = (key: string) => call("VectorStoreService/ListVectorStores", {}, { key });

  test("a token of the provider is taken, in its project and with its scopes", async () => {
    const project = await makeProject(database);
    const token = await provider.issue({
      claims: { pgquiver_project: project },
      scopes: ["stores.read", "stores.write"],
    });
    const store = await call("VectorStoreService/CreateVectorStore", { name: "Of a team" }, { key: token });
    expect((await list(token)).data).toMatchObject([{ id: store.id }]);
    expect((await list(await provider.issue({ scopes: ["stores.read"] }))).data).toEqual([]);
    const search = { vector_store_id: store.id, query: "x" };
    await expect(call("SearchService/Search", search, { key: token })).rejects.toMatchObject({
      code: "permission_denied",
      reason: "MISSING_SCOPE",
      message: expect.stringContaining("Missing scopes: search."),
    });
  });

  test("a token for another audience is refused, and says why", async () => {
    const token = await provider.issue({ audience: "https://another.example" });
    await expect(list(token)).rejects.toMatchObject({
      code: "unauthenticated",
      reason: "INVALID_API_KEY",
      message: "The token is not for the audience of this service.",
    });
  });
});

describe("is refused in OpenAI's shape, with the reason and nothing of the token:", () => {
  const refused: [string, () => Promise<string>, string][] = [
    ["wrong audience", () => sign({ aud: "another" }), "The token is not for the audience of this service."],
    [
      "wrong issuer",
      () => sign({ iss: "https://evil.example" }),
      "The token is not from the issuer that this service trusts.",
    ],
    ["not valid yet", () => sign({ nbf: Date.now() / 1000 + 600 }), "The token is not valid yet."],
    ["expired", () => sign({ exp: 1_000_000_000 }), "The token has expired."],
    [
      "no expiry",
      () => sign({ exp: undefined as never }),
      "The token's claim 'exp' is missing or not valid.",
    ],
    [
      "no project",
      () => sign({ pgquiver_project: undefined }),
      "The token does not name a project: it has no claim 'pgquiver_project'.",
    ],
    [
      "unknown project",
      () => sign({ pgquiver_project: "proj_0" }),
      "The token is for the project 'proj_0', which does not exist or is archived.",
    ],
    [
      "a project that Postgres cannot store",
      () => sign({ pgquiver_project: "a\0b" }),
      "The token is for the project 'a\0b', which does not exist or is archived.",
    ],
    [
      "scopes that are no words",
      () => sign({ scope: [1] }),
      "The token's claim 'scope' is neither a text nor a list of texts.",
    ],
    [
      "changed after it was signed",
      async () => {
        const [head, , signature] = (await sign({})).split(".");
        const claims = { iss: provider.issuer, sub: "admin", exp: 9_999_999_999 };
        return `${head}.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.${signature}`;
      },
      "The token's signature is not valid.",
    ],
    [
      "an unknown key",
      () => sign({}, { kid: "another" }),
      "The token is signed by a key that the identity provider does not publish.",
    ],
    [
      "alg none",
      async () => {
        const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString("base64url");
        return `${encode({ alg: "none" })}.${(await sign({})).split(".")[1]}.`;
      },
      "The token's signature is of a kind that is not taken.",
    ],
    [
      "HS256 with the public key",
      async () => {
        const [jwk] = await publicKeys();
        const pem = await exportSPKI((await importJWK(jwk as never, "RS256")) as never);
        const head = Buffer.from(JSON.stringify({ alg: "HS256", kid: jwk?.kid })).toString("base64url");
        const signed = `${head}.${(await sign({})).split(".")[1]}`;
        return `${signed}.${createHmac("sha256", pem).update(signed).digest("base64url")}`;
      },
      "The token's signature is of a kind that is not taken.",
    ],
    ["no JSON", async () => "eyJhbGciOiJS.e30.", "The token cannot be read."],
  ];

  test.each(refused)("%s", async (_, make, message) => {
    const token = await make();
    const answer = await stores(token);
    expectError(answer, 401, { code: "invalid_api_key", message: expect.stringContaining(message) });
    for (const part of token.split(".").filter((one) => one !== "")) expect(answer.text).not.toContain(part);
    expect(answer.headers.get("www-authenticate")).toBe("Bearer");
  });

  test("the same token without a fault is taken", async () => {
    expect((await stores(await sign({}))).status).toBe(200);
  });
});

describe("claims", () => {
  test("may be lists, and nested, and have points in their names", async () => {
    const { own, service } = await startOwn(
      {},
      {
        claims: {
          project: "https://pgquiver.example/project",
          scopes: "resource_access.pgquiver.roles",
          stores: "stores",
          readers: "groups",
        },
      },
    );
    const claims = {
      "https://pgquiver.example/project": "default",
      resource_access: { pgquiver: { roles: ["stores.read", "stores.write", "unheard.of"] } },
      stores: "first second",
    };
    const token = await own.issue({ claims });
    const make = (id: string, key: string) =>
      send(`${service.url}/v1/vector_stores`, "POST", JSON.stringify({ id }), {
        authorization: `Bearer ${key}`,
        "content-type": "application/json",
      });
    expect((await make("first", token)).status).toBe(200);
    expect((await make("third", token)).status).toBe(403);
    expect(JSON.parse((await stores(token, service.url)).text).data).toMatchObject([{ id: "first" }]);
    const storeless = await own.issue({ claims: { ...claims, stores: undefined } });
    expect(JSON.parse((await stores(storeless, service.url)).text).data).toEqual([]);
    expect((await make("first", storeless)).status).toBe(403);
  });

  test("cannot give the whole installation to another project", async () => {
    const metrics = (token: string) =>
      send(`${server.url}/metrics`, "GET", undefined, { authorization: `Bearer ${token}` });
    expect((await metrics(await provider.issue())).status).toBe(200);
    const claims = { pgquiver_project: await makeProject(database) };
    expect((await metrics(await provider.issue({ claims }))).status).toBe(403);
  });
});

test("a token is refused before the body of its request is read", async () => {
  const request = httpRequest(`${server.url}/v1/files`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${await provider.issue({ audience: "https://another.example" })}`,
      "content-type": "multipart/form-data; boundary=x",
    },
  });
  request.on("error", () => {});
  request.write("--x\r\n");
  const [reply] = await once(request, "response");
  expect(reply.statusCode).toBe(401);
  request.destroy();
});

test("a token that was taken is refused from its expiry on", async () => {
  const token = await provider.issue({ seconds: 2 });
  expect((await stores(token)).status).toBe(200);
  await expect.poll(async () => (await stores(token)).text, { timeout: 10_000 }).toContain("has expired");
});

test("tokens of an archived project are refused, and keys go on beside tokens", async () => {
  const project = await makeProject(database);
  const token = await provider.issue({ claims: { pgquiver_project: project } });
  expect((await stores(token)).status).toBe(200);
  const admin = await makeTestKey(database, "default");
  const path = `${server.url}/v1/organization/projects/${project}/archive`;
  expect(
    (await send(path, "POST", "{}", { authorization: `Bearer ${admin}`, "content-type": "application/json" }))
      .status,
  ).toBe(200);
  expect((await stores(token)).status).toBe(401);
});

test("a service that takes tokens is closed to callers without one", async () => {
  expect((await send(`${server.url}/v1/vector_stores`, "GET")).status).toBe(401);
});

describe("when the provider", () => {
  test("signs with another key, new tokens are taken, and those of the old key are not", async () => {
    const { own, service } = await startOwn();
    const before = await own.issue();
    expect((await stores(before, service.url)).status).toBe(200);
    await own.rotate();
    expect((await stores(before, service.url)).status).toBe(200);
    expect((await stores(await own.issue(), service.url)).status).toBe(200);
    expectError(await stores(before, service.url), 401, {
      message: "The token is signed by a key that the identity provider does not publish.",
    });
  });

  test("is asked for unknown keys, then not again before the cooldown has passed", async () => {
    const { own, service } = await startOwn({}, { jwksCooldownMs: 3_600_000 });
    expect((await stores(await own.issue(), service.url)).status).toBe(200);
    const fetches = own.fetches();
    const [jwk] = own.keys;
    for (let number = 0; number < 20; number++) {
      const token = await new SignJWT({})
        .setProtectedHeader({ alg: "RS256", kid: `key ${number}` })
        .sign(await importJWK(jwk as never, "RS256"));
      expect((await stores(token, service.url)).status).toBe(401);
    }
    expect(own.fetches()).toBe(fetches);
  });

  test("signs with another key, tokens that arrive while its keys are fetched wait for them", async () => {
    const { own, service } = await startOwn({}, { jwksCooldownMs: 300 });
    expect((await stores(await own.issue(), service.url)).status).toBe(200);
    await own.rotate();
    const published = await (await fetch(own.jwksUrl)).text();
    const asked = Promise.withResolvers<ServerResponse>();
    own.replaceKeys((_, response) => asked.resolve(response));
    const before = own.fetches();
    const answers: Promise<HttpAnswer>[] = [];
    // During the cooldown since the start the new key is unknown.
    while (own.fetches() === before) {
      answers.push(stores(await own.issue(), service.url));
      await Promise.race([answers.at(-1), asked.promise]);
    }
    const during = stores(await own.issue(), service.url);
    await Promise.race([during, asked.promise.then(() => setTimeout(100))]);
    (await asked.promise).end(published);
    expect((await (answers.at(-1) as Promise<HttpAnswer>)).status).toBe(200);
    expect((await during).status).toBe(200);
  });

  test("is away, tokens of known keys are taken; others get 503, never 401, and are taken later", async () => {
    const { own, service } = await startOwn();
    expect((await stores(await own.issue(), service.url)).status).toBe(200);
    own.replaceKeys((request) => request.destroy());
    expect((await stores(await own.issue(), service.url)).status).toBe(200);
    await own.rotate();
    const token = await own.issue();
    const answer = await stores(token, service.url);
    expect(answer.status).toBe(503);
    expect(JSON.parse(answer.text).error.code).toBe("identity_provider_unavailable");
    expect(answer.headers.get("retry-after")).toBe("1");
    own.replaceKeys(undefined);
    expect((await stores(token, service.url)).status).toBe(200);
  });

  type MakeAnswer = (own: IdentityProvider) => Parameters<IdentityProvider["replaceKeys"]>[0];
  const answers: [string, MakeAnswer][] = [
    [
      "a redirect",
      (own) => (_, response) => response.writeHead(302, { location: `${own.issuer}/other` }).end(),
    ],
    ["a body without an end", () => (_, response) => void response.write(" ".repeat(300_000))],
    ["no JSON", () => (_, response) => response.end("<html>")],
    ["no keys", () => (_, response) => response.end("{}")],
  ];
  test.each(answers)("answers by %s, tokens get 503", async (_name, answer) => {
    const own = await startIdentityProvider();
    own.replaceKeys(answer(own));
    await using service = await startServer({ database, tokens: own.settings });
    expect((await stores(await own.issue(), service.url)).status).toBe(503);
    own.replaceKeys(undefined);
    expect((await stores(await own.issue(), service.url)).status).toBe(200);
    await own[Symbol.asyncDispose]();
  });
});

test("keys that would make tokens of secrets are not used", async () => {
  const own = await startIdentityProvider();
  const secret = { kty: "oct", k: Buffer.from("secret").toString("base64url"), alg: "HS256" };
  const kid = await calculateJwkThumbprint(secret);
  own.replaceKeys((_, response) => response.end(JSON.stringify({ keys: [{ ...secret, kid }] })));
  await using service = await startServer({ database, tokens: own.settings });
  const token = await new SignJWT({ iss: own.issuer, aud: own.settings.audiences[0] as string })
    .setExpirationTime("1h")
    .setProtectedHeader({ alg: "HS256", kid })
    .sign(Buffer.from("secret"));
  expect((await stores(token, service.url)).status).toBe(401);
  await own[Symbol.asyncDispose]();
});
