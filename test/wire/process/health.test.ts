import { createRequire } from "node:module";
import { fastifyConnectPlugin } from "@connectrpc/connect-fastify";
import {
  Client,
  credentials,
  Metadata,
  status as grpcStatus,
  type ClientReadableStream,
  type MethodDefinition,
  type ServiceError,
  type StatusObject,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import fastify, { type FastifyInstance } from "fastify";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { SearchService } from "../../../gen/pgquiver/v1/search_pb.ts";
import {
  createHealth,
  healthRoutes,
  type Health,
  type HealthOptions,
} from "../../../src/wire/grpc/health.ts";
import { createPortServer } from "../../../src/wire/port.ts";

interface Reply {
  status: "SERVING" | "NOT_SERVING" | "SERVICE_UNKNOWN";
}
type Method<Out> = MethodDefinition<{ service?: string }, Out>;

const proto = createRequire(import.meta.url).resolve("grpc-health-check/proto/health/v1/health.proto");
const methods = loadSync(proto, { enums: String })["grpc.health.v1.Health"] as unknown as {
  Check: Method<Reply>;
  Watch: Method<Reply>;
  List: Method<{ statuses: Record<string, Reply> }>;
};

interface Service {
  app: FastifyInstance;
  health: Health;
  client: Client;
  url: string;
}

/** A server with health alone, and a grpc-js client of it. */
async function start(options: Partial<HealthOptions> & Pick<HealthOptions, "check">): Promise<Service> {
  const health = createHealth({
    services: [SearchService.typeName],
    intervalMs: 60_000,
    timeoutMs: 10_000,
    ...options,
  });
  const app = fastify({ serverFactory: (handler) => createPortServer(handler) });
  await app.register(fastifyConnectPlugin, { routes: (router) => health.register(router) });
  healthRoutes(app, health);
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  const client = new Client(new URL(url).host, credentials.createInsecure());
  onTestFinished(async () => {
    client.close();
    await app.close();
  });
  return { app, health, client, url };
}

async function call<Out>(client: Client, method: Method<Out>, service?: string): Promise<Out> {
  return new Promise((resolve, reject) => {
    const { path, requestSerialize, responseDeserialize } = method;
    const request = service === undefined ? {} : { service };
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, (error, reply) => {
      if (error !== null) reject(error);
      else if (reply !== undefined) resolve(reply);
    });
  });
}

function openWatch(client: Client, service = ""): ClientReadableStream<Reply> {
  const { path, requestSerialize, responseDeserialize } = methods.Watch;
  const stream = client.makeServerStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    { service },
    new Metadata(),
  );
  stream.on("error", () => {});
  return stream;
}

/** The statuses a stream sends, one at a time. */
async function* statusesOf(stream: ClientReadableStream<Reply>): AsyncGenerator<string, void> {
  for await (const reply of stream as AsyncIterable<Reply>) yield reply.status;
}

async function endOf(stream: ClientReadableStream<Reply>): Promise<StatusObject> {
  stream.resume();
  return new Promise((resolve) => stream.once("status", resolve));
}

const succeed = async () => {};
const fail = async (): Promise<void> => {
  throw new Error("the database is away");
};

describe("Check", () => {
  test("answers SERVING for the whole and for each service", async () => {
    const { client } = await start({ check: succeed });
    for (const service of [undefined, "", SearchService.typeName]) {
      expect(await call(client, methods.Check, service)).toEqual({ status: "SERVING" });
    }
  });

  test("answers NOT_SERVING when the check fails", async () => {
    const { client } = await start({ check: fail });
    expect(await call(client, methods.Check)).toEqual({ status: "NOT_SERVING" });
  });

  test("answers NOT_SERVING when the check throws at once", async () => {
    const { client } = await start({
      check: () => {
        throw new Error("no pool");
      },
    });
    expect(await call(client, methods.Check)).toEqual({ status: "NOT_SERVING" });
    expect(await call(client, methods.Check)).toEqual({ status: "NOT_SERVING" });
  });

  test("answers NOT_FOUND for an unknown service", async () => {
    const { client } = await start({ check: succeed });
    const error = (await call(client, methods.Check, "nobody.Service").catch(
      (e: unknown) => e,
    )) as ServiceError;
    expect(error.code).toBe(grpcStatus.NOT_FOUND);
  });

  test("believes a result until the interval is over", async () => {
    const check = vi.fn(succeed);
    const { client } = await start({ check });
    for (let i = 0; i < 3; i++) await call(client, methods.Check);
    expect(check).toHaveBeenCalledTimes(1);
  });
});

test("List answers the status of every service", async () => {
  const { client } = await start({ check: succeed });
  expect(await call(client, methods.List)).toEqual({
    statuses: { "": { status: "SERVING" }, [SearchService.typeName]: { status: "SERVING" } },
  });
});

describe("Watch", () => {
  test.each(["", SearchService.typeName])(
    "of %j sends each flip of the state, and the drain",
    async (service) => {
      let check = fail;
      const { client, health } = await start({ check: () => check(), intervalMs: 10 });
      const stream = openWatch(client, service);
      const statuses = statusesOf(stream);
      expect((await statuses.next()).value).toBe("NOT_SERVING");
      check = succeed;
      expect((await statuses.next()).value).toBe("SERVING");
      check = fail;
      expect((await statuses.next()).value).toBe("NOT_SERVING");
      check = succeed;
      expect((await statuses.next()).value).toBe("SERVING");
      health.drain();
      expect((await statuses.next()).value).toBe("NOT_SERVING");
      expect(await call(client, methods.Check, service)).toEqual({ status: "NOT_SERVING" });
    },
  );

  test("of an unknown service sends SERVICE_UNKNOWN and stays open", async () => {
    const { client, health } = await start({ check: succeed });
    const stream = openWatch(client, "nobody.Service");
    const statuses = statusesOf(stream);
    expect((await statuses.next()).value).toBe("SERVICE_UNKNOWN");
    const end = new Promise<StatusObject>((resolve) => stream.once("status", resolve));
    health.stop();
    expect((await statuses.next()).done).toBe(true);
    expect((await end).code).toBe(grpcStatus.OK);
  });

  test("ends with NOT_SERVING and OK when the app closes, and does not hold it up", async () => {
    const { app, client } = await start({ check: succeed });
    const stream = openWatch(client);
    const statuses = statusesOf(stream);
    expect((await statuses.next()).value).toBe("SERVING");
    const end = new Promise<StatusObject>((resolve) => stream.once("status", resolve));
    const closed = app.close();
    expect((await statuses.next()).value).toBe("NOT_SERVING");
    expect((await statuses.next()).done).toBe(true);
    expect((await end).code).toBe(grpcStatus.OK);
    await closed;
  });

  test("is refused beyond the limit, until a watcher leaves", async () => {
    const { client } = await start({ check: succeed, watchersMax: 2 });
    const streams = [openWatch(client), openWatch(client)];
    for (const stream of streams) await new Promise((resolve) => stream.once("data", resolve));
    expect((await endOf(openWatch(client))).code).toBe(grpcStatus.RESOURCE_EXHAUSTED);
    streams[0]?.cancel();
    await vi.waitFor(async () => {
      const stream = openWatch(client);
      expect((await statusesOf(stream).next()).value).toBe("SERVING");
    }, 60_000);
  });
});

describe("ready", () => {
  test("shares one check among all who ask at the same time", async () => {
    const gate = Promise.withResolvers<void>();
    const check = vi.fn(async () => gate.promise);
    const { health } = await start({ check });
    const answers = Array.from({ length: 50 }, async () => health.ready());
    gate.resolve();
    expect(new Set(await Promise.all(answers))).toEqual(new Set([true]));
    expect(check).toHaveBeenCalledTimes(1);
    expect(await health.ready()).toBe(true);
    expect(check).toHaveBeenCalledTimes(2);
  });

  test("is false when the check takes too long, which is not asked again until it has settled", async () => {
    const gate = Promise.withResolvers<void>();
    const check = vi.fn(async (_signal: AbortSignal) => gate.promise);
    const { health } = await start({ check, timeoutMs: 20 });
    expect(await health.ready()).toBe(false);
    expect(check.mock.calls[0]?.[0].aborted).toBe(true);
    expect(await health.ready()).toBe(false);
    expect(check).toHaveBeenCalledTimes(1);
    gate.resolve();
    await vi.waitFor(async () => expect(await health.ready()).toBe(true), 60_000);
    expect(check).toHaveBeenCalledTimes(2);
  });

  test("is false while draining, without a check", async () => {
    const check = vi.fn(succeed);
    const { health } = await start({ check });
    health.drain();
    expect(await health.ready()).toBe(false);
    expect(check).not.toHaveBeenCalled();
  });
});

describe("plain HTTP", () => {
  test("/health answers litellm-pgvector's body whatever the database does", async () => {
    const { url } = await start({ check: fail });
    const response = await fetch(`${url}/health`);
    const body = (await response.json()) as { status: string; timestamp: number };
    expect(response.status).toBe(200);
    expect(Object.keys(body)).toEqual(["status", "timestamp"]);
    expect(body.status).toBe("healthy");
    expect(Math.abs(body.timestamp - Date.now() / 1000)).toBeLessThan(60);
    expect(Number.isInteger(body.timestamp)).toBe(true);
  });

  test("/livez answers whatever the database does", async () => {
    const { url } = await start({ check: fail });
    const response = await fetch(`${url}/livez`);
    expect([response.status, await response.json()]).toEqual([200, { status: "ok" }]);
  });

  test("/readyz follows the database and the drain", async () => {
    let check = succeed;
    const { url, health } = await start({ check: () => check() });
    const get = async () => {
      const response = await fetch(`${url}/readyz`);
      return [response.status, response.headers.get("retry-after"), await response.json()];
    };
    const unavailable = (message: string, code: string) => [
      503,
      "1",
      { error: { message, type: "server_error", param: null, code } },
    ];
    expect(await get()).toEqual([200, null, { status: "ready" }]);
    check = fail;
    expect(await get()).toEqual(unavailable("The database cannot be reached.", "database_unavailable"));
    check = succeed;
    expect(await get()).toEqual([200, null, { status: "ready" }]);
    health.drain();
    expect(await get()).toEqual(unavailable("The service is shutting down.", "draining"));
  });

  test.each([
    ["/health", 200],
    ["/livez", 200],
    ["/readyz", 503],
  ])("HEAD %s answers %i without a body", async (path, status) => {
    const { url } = await start({ check: fail });
    const response = await fetch(url + path, { method: "HEAD" });
    expect([response.status, await response.text()]).toEqual([status, ""]);
  });
});
