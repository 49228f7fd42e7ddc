import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { openAsBlob } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { Agent, get } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../../gen/health/v1/health_pb.ts";
import { EmbeddingService } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { openEmbedded } from "../../../src/postgres/embedded/embedded.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { startEmbeddingServer } from "../../support/servers/embedding-server.ts";
import { jsonClient } from "../../support/clients/json.ts";
import { freePort, ROOT, start } from "../../support/servers/process.ts";
import { startRelay } from "../../support/servers/relay.ts";
import { BUCKET_CREDENTIALS, startSilentBucket } from "../../support/servers/silent-bucket.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

/** What the processes need to find their database: on the server the tests run on, or in a directory. */
let database: Record<string, string>;
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  const template = inject("template");
  if (template.kind === "postgres") {
    const opened = await openTestDatabase();
    database = { DATABASE_URL: String(opened.url) };
    return () => opened.close();
  }
  const snapshot = await openAsBlob(template.migrated);
  const data = join(directory, "data");
  await (await openEmbedded({ directory: data, snapshot, ...TEST_LIMITS })).close();
  database = { DATA_DIRECTORY: data };
  return undefined;
});

afterAll(async () => {
  await rm(directory, { recursive: true });
});

/** Starts the service on the database of this file and a free port, and waits until it listens. */
async function serve(environment: Record<string, string> = {}) {
  const started = start({ ...database, PORT: "0", ...environment });
  const url = String(/http:\S+/.exec(await started.said(/^Listening/))?.[0]);
  return { ...started, url, send: jsonClient(url) };
}

/** A service with an insert in flight, which waits for its embedding until `answer` is called. */
async function serveWithCallInFlight(graceSeconds: number) {
  const provider = await startEmbeddingServer();
  onTestFinished(() => provider.stop());
  const { promise: until, resolve: answer } = Promise.withResolvers<void>();
  provider.always({ until });
  const service = await serve({
    EMBEDDING__BASE_URL: provider.url,
    EMBEDDING__MODEL: "test-embedding",
    SHUTDOWN_GRACE_SECONDS: String(graceSeconds),
  });
  const { json } = await service.send("POST", "/v1/vector_stores");
  const path = `/v1/vector_stores/${String(json["id"])}`;
  const inFlight = service.send("POST", `${path}/embeddings`, { content: "in flight" });
  // A failure is looked at later.
  inFlight.catch(() => undefined);
  await provider.received(1);
  return { ...service, provider, answer, path, inFlight };
}

/** How many embeddings a store holds, by a new process. */
async function countAfterRestart(path: string): Promise<unknown> {
  const { send, child, ended } = await serve();
  const { json } = await send("GET", path);
  const listed = await send("GET", `${path}/embeddings`);
  child.kill("SIGTERM");
  await ended;
  return { counts: json["file_counts"], rows: (listed.json["data"] as unknown[]).length };
}

const counts = (total: number) => ({
  counts: { in_progress: 0, completed: total, failed: 0, cancelled: 0, total },
  rows: total,
});

describe("start", () => {
  test("says which database, which embeddings and which address, and what to set for production", async () => {
    const { output, messages, said, url, child, ended } = await serve();
    // Logged once the isolation is found, before or after the other messages.
    const isolation = /^Files are read in processes of their own: /;
    await Promise.all([said(/^Without a key/), said(isolation)]);
    const path = database["DATA_DIRECTORY"];
    expect(messages.filter((message) => !isolation.test(message))).toEqual([
      path === undefined
        ? expect.stringMatching(/^Connecting to PostgreSQL at [\w.:]+, database pgquiver_test_\w+$/)
        : `Opening the embedded database in ${path}`,
      expect.stringMatching(
        /^Listening on http:\/\/127\.0\.0\.1:[1-9]\d* for gRPC, gRPC-Web, Connect and OpenAI's REST$/,
      ),
      "Ready",
      ...(path === undefined ? [] : ["For production set DATABASE_URL to a Postgres with pgvector."]),
      "For search by meaning in other languages than English, and at a better quality, set EMBEDDING__BASE_URL and EMBEDDING__MODEL.",
      "Without a key the service listens on loopback only: set SERVER_API_KEY to open it.",
    ]);
    expect(JSON.parse(output[messages.indexOf("Ready")] as string)).toMatchObject({
      table: {
        version: "0.1.0",
        address: url,
        database: path === undefined ? expect.any(String) : `the embedded database in ${path}`,
        embedder: "the built-in pgquiver-meaning-v1, for English",
        docs: join(ROOT, "README.md"),
      },
    });
    child.kill("SIGTERM");
    expect(await ended).toMatchObject({ code: 0, errors: "" });
  });

  test("gives no advice to a service that is set up, and shows no secret", async () => {
    const { output, messages, said, child, ended } = await serve({
      SERVER_API_KEY: "secret-key-of-16-characters",
      HOST: "127.0.0.1",
      EMBEDDING__BASE_URL: "http://127.0.0.1:9/v1",
      EMBEDDING__MODEL: "text-embedding-3-small",
      EMBEDDING__API_KEY: "secret-provider-key",
    });
    await said(/^Ready$/);
    child.kill("SIGTERM");
    await ended;
    expect(output[messages.indexOf("Ready")]).toContain(
      '"embedder":"model text-embedding-3-small at http://127.0.0.1:9/v1"',
    );
    expect(output.join("\n")).not.toMatch(/secret|SERVER_API_KEY|by meaning/);
  });

  test("needs a key where HOST is not loopback by its name, and says how to make the first", async () => {
    const { url, said } = await serve({ HOST: "127.1" });
    await said(
      /^No key exists yet, so every call is refused\. Make the first one by `npm run keys -- create/,
    );
    expect((await fetch(`${url}/health`)).status).toBe(200);
    expect((await fetch(`${url}/v1/vector_stores`)).status).toBe(401);
  });

  test("takes the first key from the command line, and needs one from then on", async () => {
    const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    const environment = { ...process.env, DATA_DIRECTORY: directory, HOST: "127.0.0.1" };
    const keys = (...words: string[]) =>
      execFileSync(process.execPath, ["src/start.mjs", "keys", ...words], {
        cwd: ROOT,
        env: environment,
        encoding: "utf8",
      });
    const [key = ""] = keys("create", "--name", "first", "--scopes", "all").split("\n");
    expect(keys("list")).toContain(`${key.slice(0, 8)}...${key.slice(-4)}  first  `);
    const { url } = await serve({ DATABASE_URL: "", DATA_DIRECTORY: directory });
    expect((await fetch(`${url}/v1/vector_stores`)).status).toBe(401);
    const headers = { authorization: `Bearer ${key}` };
    expect((await fetch(`${url}/metrics`, { headers })).status).toBe(200);
    const logs = await fetch(`${url}/v1/organization/audit_logs`, { headers });
    expect(await logs.json()).toMatchObject({
      data: [{ type: "api_key.created", actor: null, protocol: "cli" }],
    });
  });

  test("lists everything that is wrong with the configuration, and ends with 1", async () => {
    const { ended } = start({
      PORT: "99999",
      LOG_LEVEL: "loud",
      DATABASE_URL: "mysql://localhost",
      SHUTDOWN_GRACE_SECONDS: "-1",
      EMBEDDING__MODEL: "text-embedding-3-small",
      TLS_CERT_FILE: "cert.pem",
      DB_FIELDS__ID_FIELD: "id; drop table embeddings",
    });
    const { code, fatal = "", errors } = await ended;
    expect({ code, errors }).toEqual({ code: 1, errors: "" });
    const [title, ...problems] = fatal.split("\n");
    expect(title).toBe("The configuration is invalid:");
    expect(problems.map((problem) => problem.trim().split(":")[0])).toEqual([
      "DATABASE_URL",
      "PORT",
      "SHUTDOWN_GRACE_SECONDS",
      "LOG_LEVEL",
      "DB_FIELDS__ID_FIELD",
      "TLS_CERT_FILE, TLS_KEY_FILE",
      "EMBEDDING__BASE_URL",
    ]);
  });

  test.each(["127.0.0.1", "localhost"])(
    "says that the database at %s is away, without its password, and ends with 1",
    async (host) => {
      const port = await freePort();
      const { ended } = start({
        DATABASE_URL: `postgresql://ada:secret@${host}:${port}/vectors`,
        DATABASE_WAIT_SECONDS: "0",
      });
      const { code, fatal, errors } = await ended;
      expect({ code, errors }).toEqual({ code: 1, errors: "" });
      expect(fatal).toContain(`PostgreSQL at ${host}:${port}, database vectors`);
      expect(fatal).toContain("ECONNREFUSED");
      expect(fatal).not.toMatch(/secret|\n\s+at /);
    },
  );

  test("says that its port is taken, and ends with 1", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    onTestFinished(() => void server.close());
    await once(server, "listening");
    const { ended } = start({ ...database, PORT: String((server.address() as AddressInfo).port) });
    expect(await ended).toEqual({
      code: 1,
      fatal: expect.stringMatching(
        /^Cannot listen on HOST 127\.0\.0\.1, PORT \d+: listen EADDRINUSE: address already/,
      ),
      errors: "",
    });
  });

  if (inject("template").kind === "embedded") {
    test("refuses a data directory that another process has, by that process's id", async () => {
      const { child, send } = await serve();
      const { code, fatal } = await start({ ...database, PORT: "0" }).ended;
      expect(code).toBe(1);
      expect(fatal).toMatch(new RegExp(`^The data directory .* is in use by process ${child.pid}\\.`));
      expect((await send("GET", "/readyz")).status).toBe(200);
    });
  } else {
    test("shares a database with another process", async () => {
      const [one, other] = await Promise.all([serve(), serve()]);
      const { json } = await one.send("POST", "/v1/vector_stores", { name: "shared" });
      expect((await other.send("GET", `/v1/vector_stores/${String(json["id"])}`)).json).toEqual(json);
    });
  }
});

describe("stop", () => {
  test.each(["SIGTERM", "SIGINT"] as const)(
    "%s ends readiness and idle connections, finishes what is in flight, and ends with 0",
    async (signal) => {
      // A connection that held the process up would hold it for an hour.
      const { url, child, ended, said, answer, inFlight, path } = await serveWithCallInFlight(3_600);
      const agent = new Agent({ keepAlive: true });
      const [idle] = await once(get(`${url}/health`, { agent }), "response");
      idle.resume();
      const session = connectHttp2(url);
      await once(session, "connect");
      const watched: Status[] = [];
      const health = createClient(Health, createGrpcTransport({ baseUrl: url }));
      for await (const { status } of health.watch({})) {
        watched.push(status);
        if (status === Status.SERVING) child.kill(signal);
      }
      expect(watched).toEqual([Status.SERVING, Status.NOT_SERVING]);
      if (!session.closed) await once(session, "close");
      await expect(fetch(`${url}/readyz`)).rejects.toThrow("fetch failed");
      answer();
      expect(await inFlight).toMatchObject({ status: 200, json: { content: "in flight" } });
      expect(await ended).toMatchObject({ code: 0, errors: "" });
      await said(new RegExp(`^${signal}: finishing the calls in flight`));
      expect(await countAfterRestart(path)).toEqual(counts(1));
    },
  );

  test("cuts what is in flight after the grace period, stores none of it, and ends with 0", async () => {
    const { url, child, ended, provider, inFlight, path } = await serveWithCallInFlight(1);
    const embeddings = createClient(EmbeddingService, createGrpcTransport({ baseUrl: url }));
    const request = {
      vectorStoreId: String(path.split("/").at(-1)),
      embedding: { content: "in flight, too" },
    };
    const overGrpc = embeddings.createEmbedding(request).catch((error: unknown) => error);
    await provider.received(2);
    child.kill("SIGTERM");
    await expect(inFlight).rejects.toThrow("fetch failed");
    expect(await overGrpc).toBeInstanceOf(Error);
    expect(await ended).toMatchObject({ code: 0, errors: "" });
    for (const { abandoned } of provider.requests) expect(await abandoned).toBe(true);
    expect(await countAfterRestart(path)).toEqual(counts(0));
  });

  test("an upload to a bucket that does not answer does not keep it", async () => {
    await using bucket = await startSilentBucket();
    const { url, child, ended } = await serve({
      ...BUCKET_CREDENTIALS,
      FILES_BUCKET_URL: bucket.url,
      SHUTDOWN_GRACE_SECONDS: "1",
    });
    const form = new FormData();
    form.append("purpose", "assistants");
    form.append("file", new File(["in flight"], "a.txt"));
    const upload = expect(fetch(`${url}/v1/files`, { method: "POST", body: form })).rejects.toThrow(
      "fetch failed",
    );
    await bucket.received(1);
    child.kill("SIGTERM");
    await upload;
    expect(await ended).toMatchObject({ code: 0, errors: "" });
  });

  test("Ctrl-C under `npm start`, which sends SIGINT twice, lets the call in flight finish", async () => {
    const { child, ended, said, answer, inFlight } = await serveWithCallInFlight(3_600);
    child.kill("SIGINT");
    await said(/^SIGINT/);
    child.kill("SIGINT");
    answer();
    expect(await inFlight).toMatchObject({ status: 200 });
    expect(await ended).toMatchObject({ code: 0, errors: "" });
  });

  test("a second signal ends it at once, with 1, and the next start goes on", async () => {
    const { child, ended, said, inFlight, path } = await serveWithCallInFlight(3_600);
    child.kill("SIGTERM");
    await said(/^SIGTERM/);
    child.kill("SIGINT");
    expect((await ended).code).toBe(1);
    await expect(inFlight).rejects.toThrow("fetch failed");
    expect(await countAfterRestart(path)).toEqual(counts(0));
  });

  test("serves new connections for the delay, without readiness, so that no request is reset", async () => {
    const { url, child, ended, send } = await serve({ SHUTDOWN_DELAY_SECONDS: "2" });
    const agent = new Agent({ keepAlive: true });
    const [before] = await once(get(`${url}/v1/vector_stores`, { agent }), "response");
    await text(before);
    expect(before.headers.connection).toBe("keep-alive");
    const startedAt = performance.now();
    child.kill("SIGTERM");
    // As a load balancer does: requests go on until readiness has failed, each on a new connection.
    for (let isReady = true; isReady;) {
      expect(await send("GET", "/v1/vector_stores")).toMatchObject({ status: 200 });
      isReady = (await fetch(`${url}/readyz`, { headers: { connection: "close" } })).status === 200;
    }
    const [during] = await once(get(`${url}/v1/vector_stores`, { agent }), "response");
    await text(during);
    expect(during.headers.connection).toBe("close");
    expect(await ended).toMatchObject({ code: 0, errors: "" });
    expect(performance.now() - startedAt).toBeGreaterThan(2_000);
  });

  test.runIf(isNative())("ends within its grace and some seconds while the database is silent", async () => {
    const at = new URL(String(database["DATABASE_URL"]));
    const relay = await startRelay({ address: `${at.hostname}:${at.port}` });
    onTestFinished(() => relay[Symbol.asyncDispose]());
    at.host = relay.address;
    const { url, child, ended, send } = await serve({ DATABASE_URL: at.href, SHUTDOWN_GRACE_SECONDS: "1" });
    await Promise.all(Array.from({ length: 20 }, () => send("GET", "/v1/vector_stores")));
    relay.hold();
    const hanging = fetch(`${url}/v1/vector_stores`).catch(() => undefined);
    const startedAt = performance.now();
    child.kill("SIGTERM");
    expect(await ended).toMatchObject({ code: 0, errors: "" });
    expect(performance.now() - startedAt).toBeLessThan(6_000);
    await hanging;
  });
});

describe.runIf(isNative())("a database that is away", () => {
  test("is waited for at the start", async () => {
    const at = new URL(String(database["DATABASE_URL"]));
    const address = `${at.hostname}:${at.port}`;
    const port = await freePort();
    at.host = `127.0.0.1:${port}`;
    const { said } = start({ DATABASE_URL: at.href, PORT: "0" });
    expect(await said(/^Cannot reach/)).toMatch(
      /database \w+: .*ECONNREFUSED.*\. Trying again for at most 60 s \(DATABASE_WAIT_SECONDS\)$/,
    );
    const relay = await startRelay({ address }, port);
    onTestFinished(() => relay[Symbol.asyncDispose]());
    await said(/^Ready/);
  });

  test("ends the start once the wait is over, with 1", async () => {
    const url = `postgresql://127.0.0.1:${await freePort()}/vectors`;
    const { messages, ended } = start({ DATABASE_URL: url, DATABASE_WAIT_SECONDS: "1" });
    expect(await ended).toMatchObject({
      code: 1,
      fatal: expect.stringMatching(/^Cannot use .*ECONNREFUSED/),
    });
    expect(messages.filter((message) => message.startsWith("Cannot reach")).length).toBeGreaterThan(1);
  });
});

/** Whether the tests run on a server. */
function isNative(): boolean {
  return inject("template").kind === "postgres";
}
