import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { text as readText } from "node:stream/consumers";
import {
  createFileRegistry,
  create,
  fromBinary,
  type DescMethod,
  type DescService,
} from "@bufbuild/protobuf";
import {
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  type FileDescriptorProto,
} from "@bufbuild/protobuf/wkt";
import { Code, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { afterAll, describe, expect, test } from "vitest";
import { ServerReflection } from "../../../gen/grpc/reflection/v1/reflection_pb.ts";
import {
  Health,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../../../gen/health/v1/health_pb.ts";
import { protocols } from "../../support/clients/clients.ts";
import { expectError, send } from "../../support/clients/http.ts";
import { routesOf } from "../../support/clients/rest-client.ts";
import { startServer } from "../../support/servers/server.ts";

const keys = ["sk-first", "sk-second_0123456789=="];
const server = await startServer({ apiKeys: keys });
const sessions = new Http2SessionManager(server.url);
const options = { baseUrl: server.url, httpVersion: "2", sessionManager: sessions } as const;
const transports: [string, Transport][] = [
  ["gRPC", createGrpcTransport(options)],
  ["Connect, binary", createConnectTransport({ ...options, useBinaryFormat: true })],
  ["Connect, JSON", createConnectTransport({ ...options, useBinaryFormat: false })],
  ["gRPC-Web", createGrpcWebTransport(options)],
];
const grpc = createGrpcTransport(options);
afterAll(async () => {
  sessions.abort();
  await server[Symbol.asyncDispose]();
});

async function* only<T>(message: T) {
  yield message;
}

/** The services as the server itself describes them, so that none can be forgotten here. */
async function reflectServices(): Promise<DescService[]> {
  const client = createClient(ServerReflection, grpc);
  const headers = { authorization: `Bearer ${keys[0]}` };
  const ask = async (messageRequest: { case: "listServices" | "fileContainingSymbol"; value: string }) => {
    for await (const reply of client.serverReflectionInfo(only({ messageRequest }), { headers }))
      return reply.messageResponse;
    throw new Error("no answer");
  };
  const listed = await ask({ case: "listServices", value: "" });
  if (listed.case !== "listServicesResponse") throw new Error(String(listed.case));
  const names = listed.value.service.map(({ name }) => name);
  const files = new Map<string, FileDescriptorProto>();
  for (const name of names) {
    const found = await ask({ case: "fileContainingSymbol", value: name });
    if (found.case !== "fileDescriptorResponse") throw new Error(name);
    for (const bytes of found.value.fileDescriptorProto) {
      const file = fromBinary(FileDescriptorProtoSchema, bytes);
      files.set(file.name, file);
    }
  }
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: inOrder(files) }));
  return names.map((name) => registry.getService(name) as DescService);
}

/** Files after those they import, as a registry wants them. */
function inOrder(files: Map<string, FileDescriptorProto>): FileDescriptorProto[] {
  const ordered = new Set<FileDescriptorProto>();
  const add = (name: string) => {
    const file = files.get(name) as FileDescriptorProto;
    file.dependency.forEach(add);
    ordered.add(file);
  };
  for (const name of files.keys()) add(name);
  return [...ordered];
}

const methods = (await reflectServices()).flatMap((service) => service.methods);
const guarded = methods.filter((method) => method.parent.typeName !== Health.typeName);

test("every service is looked at", () => {
  const names = new Set(guarded.map((method) => method.parent.name));
  for (const name of ["VectorStoreService", "EmbeddingService", "SearchService", "ServerReflection"])
    expect(names).toContain(name);
});

/** Calls any method with one empty message; resolves with the first reply. */
async function callEmpty(transport: Transport, method: DescMethod, authorization?: string): Promise<unknown> {
  const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
  const message = create(method.input);
  if (method.methodKind === "unary") {
    return (
      await transport.unary(
        method as DescMethod & { methodKind: "unary" },
        undefined,
        60_000,
        headers,
        message,
      )
    ).message;
  }
  const reply = await transport.stream(
    method as DescMethod & { methodKind: "server_streaming" },
    undefined,
    60_000,
    headers,
    only(message),
  );
  for await (const item of reply.message) return item;
  return undefined;
}

describe.each(transports)("over %s", (_, transport) => {
  test.each(guarded.map((method) => [method.toString(), method] as const))(
    "%s needs a key",
    async (_name, method) => {
      for (const authorization of [undefined, "Bearer wrong", `Basic ${keys[0]}`]) {
        await expect(callEmpty(transport, method, authorization)).rejects.toMatchObject({
          code: Code.Unauthenticated,
        });
      }
      for (const key of keys) {
        const error = await callEmpty(transport, method, `Bearer ${key}`).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        expect(error).not.toMatchObject({ code: Code.Unauthenticated });
      }
    },
  );

  test("health needs none", async () => {
    const { check, watch } = Health.method;
    expect(await callEmpty(transport, check)).toMatchObject({ status: ServingStatus.SERVING });
    expect(await callEmpty(transport, watch)).toMatchObject({ status: expect.any(Number) });
  });
});

describe("over REST", () => {
  const routes = guarded
    .flatMap(routesOf)
    .map(({ verb, template }) => [verb, template.replace(/\{\w+\}/g, "x")]);
  const later = [
    ["GET", "/v1/files"],
    ["POST", "/v1/embeddings"],
    ["GET", "/v1/vector_stores/x/files"],
  ];

  test.each([...routes, ...later] as [string, string][])("%s %s needs a key", async (verb, path) => {
    for (const alias of [path, `/v1${path}`, path.slice("/v1".length)]) {
      const reply = await send(server.url + alias, verb);
      expectError(reply, 401, { param: null, code: "invalid_api_key" });
      expect(reply.headers.get("www-authenticate")).toBe("Bearer");
    }
    const body = verb === "GET" ? undefined : "{not json";
    const wrong = { authorization: "Bearer wrong", "content-type": "text/plain" };
    expectError(await send(server.url + path, verb, body, wrong), 401);
    const right = { authorization: `Bearer ${keys[1]}` };
    expect((await send(server.url + path, verb, undefined, right)).status).not.toBe(401);
  });

  test.each(["/health", "/livez", "/readyz"])("%s needs none", async (path) => {
    expect((await send(server.url + path, "GET")).status).toBe(200);
  });
});

describe.each(protocols)("the header over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());
  const list = (authorization: string) =>
    call("VectorStoreService/ListVectorStores", {}, { headers: { authorization } });

  test.each(["Bearer sk-first", "bearer sk-first", "BEARER  sk-first", "Bearer sk-second_0123456789=="])(
    "%j is right",
    async (header) => {
      expect(await list(header)).toMatchObject({ object: "list" });
    },
  );

  test.each([
    ["Bearer sk-firs", "Incorrect API key provided."],
    ["Bearer sk-first1", "Incorrect API key provided."],
    ["Bearer SK-FIRST", "Incorrect API key provided."],
    ["Bearer sk-first,sk-second_0123456789==", "Incorrect API key provided."],
    ['Bearer "sk-first"', "Incorrect API key provided."],
    ["Bearer", expect.stringMatching(/^You didn't provide an API key/)],
    ["Bearer ", expect.stringMatching(/^You didn't provide an API key/)],
    ["Bearer sk-first sk-second_0123456789==", expect.stringMatching(/^You didn't provide an API key/)],
    ["Bearersk-first", expect.stringMatching(/^You didn't provide an API key/)],
    ["sk-first", expect.stringMatching(/^You didn't provide an API key/)],
    ["Basic sk-first", expect.stringMatching(/^You didn't provide an API key/)],
    ["Bearer sk-first, Bearer sk-first", expect.stringMatching(/^You didn't provide an API key/)],
  ])("%j is wrong", async (header, message) => {
    await expect(list(header)).rejects.toMatchObject({
      code: "unauthenticated",
      reason: "INVALID_API_KEY",
      param: null,
      message,
    });
  });

  test("is needed", async () => {
    await expect(call("VectorStoreService/ListVectorStores")).rejects.toMatchObject({
      code: "unauthenticated",
      reason: "INVALID_API_KEY",
    });
  });
});

describe("a body from who has no key is not waited for", () => {
  const rpc = "/pgquiver.v1.EmbeddingService/CreateEmbedding";

  test.each([
    ["/v1/vector_stores/x/embeddings/batch", "application/json"],
    [rpc, "application/json"],
    [rpc, "application/proto"],
  ])("over HTTP/1.1, %s %s", async (path, type) => {
    const request = httpRequest(server.url + path, {
      method: "POST",
      headers: { "content-type": type, "content-length": 64 * 1024 * 1024 },
    });
    request.on("error", () => undefined);
    request.write("{");
    const [reply] = await once(request, "response");
    expect(reply.statusCode).toBe(401);
    expect(await readText(reply)).toMatch(/invalid_api_key|unauthenticated/);
    request.destroy();
  });

  test.each([
    ["/v1/vector_stores/x/embeddings/batch", "application/json"],
    [rpc, "application/json"],
    [rpc, "application/grpc"],
    [rpc, "application/grpc-web+proto"],
  ])("over HTTP/2, %s %s", async (path, type) => {
    const session = connectHttp2(server.url);
    const stream = session.request({ ":method": "POST", ":path": path, "content-type": type });
    stream.write(Buffer.from([0, 0, 64, 0, 0, 1]));
    let head: Record<string, unknown> = {};
    stream.on("response", (headers) => (head = { ...headers, ...head }));
    stream.on("trailers", (headers) => (head = { ...headers, ...head }));
    const body = await readText(stream);
    const status = String(head["grpc-status"] ?? /grpc-status: *(\d+)/.exec(body)?.[1] ?? head[":status"]);
    expect(status).toBe(type.includes("grpc") ? String(Code.Unauthenticated) : "401");
    session.destroy();
  });
});

test("without keys every request passes", async () => {
  await using open = await startServer();
  for (const headers of [{}, { authorization: "Bearer anything" }, { authorization: "nonsense" }] as Record<
    string,
    string
  >[]) {
    expect((await send(`${open.url}/v1/vector_stores`, "GET", undefined, headers)).status).toBe(200);
  }
});

describe("a page of an origin that may call", () => {
  const origin = "https://page.example";
  const serve = () => startServer({ apiKeys: keys, corsOrigins: [origin] });

  test("may use every method there is, and may read every header that says something", async () => {
    await using open = await serve();
    const url = `${open.url}/v1/vector_stores`;
    const asked = { origin, "access-control-request-method": "PUT" };
    const preflight = await send(`${url}/x/embeddings/ingest`, "OPTIONS", undefined, asked);
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get("access-control-allow-origin")).toBe(origin);
    const methods = preflight.headers.get("access-control-allow-methods")?.split(", ");
    const verbs = (await reflectServices()).flatMap(({ methods: rpcs }) => rpcs).flatMap(routesOf);
    expect(methods).toEqual(expect.arrayContaining(verbs.map(({ verb }) => verb)));
    const refused = await send(url, "PATCH", undefined, { origin });
    const exposed = refused.headers.get("access-control-expose-headers")?.split(", ");
    expect(exposed).toEqual(expect.arrayContaining(["x-request-id", "x-should-retry", "allow", "etag"]));
  });

  test("is answered when it asks for no method", async () => {
    await using open = await serve();
    const reply = await send(`${open.url}/v1/vector_stores`, "OPTIONS", undefined, { origin });
    expect(reply).toMatchObject({ status: 204, text: "" });
  });
});
