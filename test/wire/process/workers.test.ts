import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { Agent, request, type IncomingMessage } from "node:http";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { connect } from "node:tls";
import { beforeAll, describe, expect, inject, onTestFinished, test } from "vitest";
import { certificate, renewedCertificate } from "../../support/servers/certificate.ts";
import { protocols } from "../../support/clients/clients.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { startEmbeddingServer } from "../../support/servers/embedding-server.ts";
import { grpcByGrpcJs } from "../../support/clients/grpc-client.ts";
import { jsonClient } from "../../support/clients/json.ts";
import { freePort, start } from "../../support/servers/process.ts";
import { isAlive, readPids } from "../../support/servers/workers.ts";

const GET_STORE = "VectorStoreService/GetVectorStore";
const PATIENCE = { timeout: 60_000, interval: 50 };

let databaseUrl: string;
beforeAll(async () => {
  if (inject("template").kind === "embedded") return undefined;
  const database = await openTestDatabase();
  databaseUrl = String(database.url);
  return () => database.close();
});

/** Starts a service of two workers, or as `environment` says, and waits until all serve. */
async function serve(environment: Record<string, string> = {}) {
  const started = start({ DATABASE_URL: databaseUrl, PORT: "0", WORKERS: "2", ...environment });
  await started.said(/^Ready$/);
  const url = String(/http:\S+/.exec(await started.said(/^Listening/))?.[0]);
  const send = jsonClient(url);
  const { json } = await send("POST", "/v1/vector_stores", {});
  const scrape = async () => (await fetch(`${url}/metrics`)).text();
  return { ...started, url, address: url.slice("http://".length), send, store: String(json["id"]), scrape };
}

type Service = Awaited<ReturnType<typeof serve>>;

/** Callers that never pause, each on a connection of its own: kept-alive HTTP/1.1, or gRPC by grpc-js. */
function callAround({ address, store }: Service, http1: number, grpc: number) {
  let isOver = false;
  const failures: { caller: number; error: unknown }[] = [];
  const answered = Array.from({ length: http1 + grpc }, () => 0);
  const run = async (caller: number, call: () => Promise<unknown>) => {
    while (!isOver) {
      await call().then(
        () => (answered[caller] = (answered[caller] ?? 0) + 1),
        (error: unknown) => failures.push({ caller, error }),
      );
    }
  };
  const callers = answered.map(async (_, caller) => {
    if (caller < http1) {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      await run(caller, () => get(`http://${address}/v1/vector_stores/${store}`, agent, `caller-${caller}`));
      return agent.destroy();
    }
    // Otherwise grpc-js would share one connection among the clients.
    const options = { "grpc.use_local_subchannel_pool": 1 };
    await using client = grpcByGrpcJs.connect({ url: "", address }, options);
    await run(caller, () => client.call(GET_STORE, { vector_store_id: store }));
  });
  return {
    answered,
    failures,
    total: () => answered.reduce((sum, calls) => sum + calls),
    /** Resolves when every caller has got `calls` more answers. */
    async progress(calls = 20) {
      const before = [...answered];
      const isFar = () => answered.every((now, caller) => now >= (before[caller] ?? 0) + calls);
      await expect.poll(isFar, PATIENCE).toBe(true);
    },
    async end() {
      isOver = true;
      await Promise.all(callers);
    },
  };
}

async function get(url: string, agent: Agent, requestId = "test"): Promise<string> {
  const call = request(url, { agent, headers: { "x-request-id": requestId } }).end();
  const [reply] = (await once(call, "response")) as [IncomingMessage];
  const body = await text(reply);
  if (reply.statusCode !== 200) throw new Error(`${reply.statusCode}: ${body}`);
  return body;
}

/** The value of a counter in a scrape. */
function countCalls(scrape: string, rpc: string): number {
  const lines = scrape
    .split("\n")
    .filter((line) => line.startsWith(`pgquiver_calls_total{rpc="pgquiver.v1.${rpc}"`));
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

describe.runIf(inject("template").kind === "postgres")("two workers", () => {
  test("serve every protocol on one port, and say who they are", async () => {
    const service = await serve();
    for (const protocol of protocols) {
      await using client = protocol.connect(service);
      const reply = await client.call(GET_STORE, { vector_store_id: service.store });
      expect(reply["id"], protocol.name).toBe(service.store);
    }
    const pids = readPids(service);
    expect(pids).toHaveLength(2);
    expect(pids.every(isAlive)).toBe(true);
    expect((await fetch(`${service.url}/readyz`)).status).toBe(200);
    service.child.kill("SIGTERM");
    expect(await service.ended).toMatchObject({ code: 0, errors: "" });
    expect(service.messages.at(-1)).toBe("Stopped");
    expect(pids.filter(isAlive)).toEqual([]);
  });

  test("count calls as one, whichever is asked", async () => {
    const service = await serve();
    const calls = 60;
    for (let call = 0; call < calls; call++)
      await get(`${service.url}/v1/vector_stores/${service.store}`, new Agent());
    // A worker that is busy is passed over.
    const ofWorker = (worker: number) =>
      service.output.filter(
        (line) => line.includes("/GetVectorStore") && line.includes(`"worker":${worker},`),
      );
    await expect.poll(() => ofWorker(1).length + ofWorker(2).length, PATIENCE).toBe(calls);
    for (const worker of [1, 2]) expect(ofWorker(worker).length).toBeGreaterThan(calls / 4);
    for (let scrape = 0; scrape < 4; scrape++) {
      const samples = await service.scrape();
      expect(countCalls(samples, GET_STORE)).toBe(calls);
      expect(samples).toContain("\npgquiver_database_up 1\n");
      expect(samples).toMatch(/^pgquiver_vector_stores\{index_state="none"\} [1-9]\d*$/m);
      expect(samples.match(/^pgquiver_calls_open\{kind="unary"\} 0$/gm)).toHaveLength(1);
    }
    const memory = /^process_resident_memory_bytes (\d+)$/m.exec(await service.scrape())?.[1];
    expect(Number(memory)).toBeGreaterThan(150e6);
  });

  test("lose only the connections of one that is killed, and get another", async () => {
    const service = await serve();
    const callers = callAround(service, 8, 0);
    await callers.progress();
    const [victim = 0, survivor = 0] = readPids(service);
    const before = countCalls(await service.scrape(), GET_STORE);
    const lines = service.output.filter((line) => line.includes(`"pid":${victim},`));
    const connected = new Set(lines.join("").match(/caller-\d/g));
    process.kill(victim, "SIGKILL");
    await service.said(/^Worker 1 serves again, as process \d+$/);
    await callers.progress();
    await callers.end();
    expect(connected.size).toBeGreaterThan(0);
    expect(connected.size).toBeLessThan(8);
    const cut = new Set(callers.failures.map(({ caller }) => `caller-${caller}`));
    expect([...cut].toSorted()).toEqual([...connected].toSorted());
    expect(await service.said(/^Worker 1 \(process/)).toBe(
      `Worker 1 (process ${victim}) has ended with SIGKILL. Another starts in 0.1 s`,
    );
    expect(isAlive(survivor)).toBe(true);
    expect(countCalls(await service.scrape(), GET_STORE)).toBeGreaterThanOrEqual(before);
  });

  test("leave no client without an answer whose connection one had not taken when it was killed", async () => {
    const service = await serve();
    const [victim = 0] = readPids(service);
    process.kill(victim, "SIGSTOP");
    const path = `${service.url}/v1/vector_stores/${service.store}`;
    // Every second one is for the stopped worker, until one waits for it.
    const calls = Array.from({ length: 6 }, () =>
      get(path, new Agent()).then(
        () => "ok",
        () => "failed",
      ),
    );
    const first = await Promise.race([Promise.all(calls.slice(0, 1)), Promise.all(calls.slice(1))]);
    expect(first).not.toContain("failed");
    process.kill(victim, "SIGKILL");
    const results = await Promise.all(calls);
    expect(results.filter((result) => result === "failed")).toHaveLength(1);
  });

  test("are replaced at SIGHUP without a refused call", async () => {
    const service = await serve();
    const before = readPids(service);
    const callers = callAround(service, 6, 3);
    await callers.progress();
    service.child.kill("SIGHUP");
    await service.said(/^Reloaded/);
    await callers.progress();
    await callers.end();
    expect(callers.failures).toEqual([]);
    const after = readPids(service);
    expect(after).toHaveLength(2);
    expect(after.filter((pid) => before.includes(pid))).toEqual([]);
    expect(before.filter(isAlive)).toEqual([]);
    // The calls that the replaced workers counted are still there.
    expect(countCalls(await service.scrape(), GET_STORE)).toBe(callers.total());
  });

  test("end at SIGTERM without a refused call, when clients heed readiness", async () => {
    const service = await serve({ SHUTDOWN_DELAY_SECONDS: "2" });
    const pids = readPids(service);
    const callers = callAround(service, 4, 2);
    await callers.progress();
    service.child.kill("SIGTERM");
    const isReady = async () =>
      (await fetch(`${service.url}/readyz`, { headers: { connection: "close" } })).status;
    await expect.poll(isReady, PATIENCE).toBe(503);
    await callers.end();
    expect(callers.failures).toEqual([]);
    expect(await service.ended).toMatchObject({ code: 0, errors: "" });
    expect(service.messages.at(-1)).toBe("Stopped");
    expect(pids.filter(isAlive)).toEqual([]);
  });

  test("finish their calls and end when the supervisor is killed, and leave the port", async () => {
    const provider = await startEmbeddingServer();
    onTestFinished(() => provider.stop());
    const { promise: until, resolve: answer } = Promise.withResolvers<void>();
    provider.always({ until });
    const port = String(await freePort());
    const embedding = { EMBEDDING__BASE_URL: provider.url, EMBEDDING__MODEL: "test-embedding" };
    // The start of the other service may take as long as the default.
    const grace = { SHUTDOWN_GRACE_SECONDS: "3600" };
    const service = await serve({ PORT: port, ...embedding, ...grace });
    const inFlight = service.send("POST", `/v1/vector_stores/${service.store}/embeddings`, {
      content: "one",
    });
    await provider.received(1);
    const pids = readPids(service);
    service.child.kill("SIGKILL");
    // It takes the port while the workers of the first are still at work.
    const other = await serve({ PORT: port });
    answer();
    expect(await inFlight).toMatchObject({ status: 200 });
    await expect.poll(() => pids.filter(isAlive), PATIENCE).toEqual([]);
    expect((await other.send("GET", `/v1/vector_stores/${service.store}`)).status).toBe(200);
  });

  test("are killed by a signal during the start, which ends it with 0", async () => {
    const { said, child, ended, messages, output } = start({
      DATABASE_URL: `postgresql://127.0.0.1:${await freePort()}/vectors`,
      WORKERS: "2",
    });
    await said(/^Cannot reach/);
    const worker = Number(
      /"pid":(\d+)/.exec(output.find((line) => line.includes("Cannot reach")) ?? "")?.[1],
    );
    expect(isAlive(worker)).toBe(true);
    child.kill("SIGTERM");
    expect(await ended).toMatchObject({ code: 0, errors: "" });
    expect(messages.at(-1)).toBe("SIGTERM during the start: ending");
    await expect.poll(() => isAlive(worker), PATIENCE).toBe(false);
  });

  test("get a renewed certificate", async () => {
    const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    const files = { TLS_CERT_FILE: join(directory, "cert.pem"), TLS_KEY_FILE: join(directory, "key.pem") };
    const write = async ({ cert, key }: typeof certificate) => {
      await writeFile(files.TLS_CERT_FILE, cert);
      await writeFile(files.TLS_KEY_FILE, key);
    };
    await write(certificate);
    const { said, messages } = start({ DATABASE_URL: databaseUrl, PORT: "0", WORKERS: "2", ...files });
    await said(/^Ready$/);
    const port = Number(/:(\d+) for/.exec(await said(/^Listening on https:/))?.[1]);
    const names = async () => {
      const seen = new Set<unknown>();
      for (let connection = 0; connection < 6; connection++) {
        const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
        await once(socket, "secureConnect");
        seen.add(socket.getPeerCertificate().subject.CN);
        socket.destroy();
      }
      return [...seen];
    };
    expect(await names()).toEqual(["localhost"]);
    await write(renewedCertificate);
    const renewals = () =>
      messages.filter((message) => message.startsWith("TLS: the renewed certificate is")).length;
    await expect.poll(renewals, PATIENCE).toBeGreaterThanOrEqual(2);
    await expect.poll(names, PATIENCE).toEqual(["renewed"]);
  });

  test("end with the reason when they cannot start", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    onTestFinished(() => void server.close());
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const taken = start({ DATABASE_URL: databaseUrl, WORKERS: "2", PORT: String(port) });
    expect(await taken.ended).toMatchObject({
      code: 1,
      fatal: expect.stringMatching(/^Cannot listen on HOST 127\.0\.0\.1, PORT \d+: .*EADDRINUSE/),
      errors: "",
    });
    expect(taken.messages.at(-1)).toMatch(/^Cannot listen/);
    const away = start({
      DATABASE_URL: `postgresql://127.0.0.1:${await freePort()}/vectors`,
      DATABASE_WAIT_SECONDS: "0",
      WORKERS: "2",
    });
    expect(await away.ended).toMatchObject({
      code: 1,
      fatal: expect.stringMatching(/^Cannot use .*ECONNREFUSED/),
    });
    expect(away.messages.at(-1)).toMatch(/^Cannot use/);
  });
});

test.runIf(inject("template").kind === "embedded")(
  "the embedded database has one process, and says so",
  async () => {
    const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    const { said, child, ended, output } = start({ DATA_DIRECTORY: directory, PORT: "0", WORKERS: "4" });
    expect(await said(/^WORKERS/)).toBe("WORKERS is ignored: the embedded database belongs to one process.");
    expect(output.join("\n")).not.toContain('"worker":');
    child.kill("SIGTERM");
    expect((await ended).code).toBe(0);
  },
);
