import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  create,
  createFileRegistry,
  fromBinary,
  type DescMethod,
  type DescService,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { credentials, loadPackageDefinition, type ServiceClientConstructor } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { pino } from "pino";
import { afterAll, expect, test } from "vitest";
import type { AuditTrail } from "../../../src/wire/audit.ts";
import { defineService } from "../../../src/wire/call.ts";
import { createHealth } from "../../../src/wire/grpc/health.ts";
import { createMetrics } from "../../../src/wire/metrics.ts";
import { createServer } from "../../../src/wire/server.ts";
import type { Reply } from "../../support/clients/client.ts";

/** The proto file and what it imports, in a folder as another project has them. */
const folder = mkdtempSync(join(tmpdir(), "pgquiver-notes-"));
cpSync(join(import.meta.dirname, "../../support/notes.proto"), join(folder, "notes.proto"));
cpSync(join(import.meta.dirname, "../../../node_modules/protobufjs/google/api"), join(folder, "google/api"), {
  recursive: true,
});
cpSync(
  join(import.meta.dirname, "../../../proto/pgquiver/v1/options.proto"),
  join(folder, "pgquiver/v1/options.proto"),
);

/** The descriptors of the proto files, compiled here: nothing of them is generated. */
function compile(): DescService {
  const buf = createRequire(import.meta.url).resolve("@bufbuild/buf/bin/buf");
  const image = execFileSync(process.execPath, [buf, "build", folder, "--output", "-"]);
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, image));
  return registry.getService("notes.v1.NoteService") as DescService;
}

const service = compile();
const metrics = createMetrics();
const reply = (method: string, value: Record<string, unknown>) =>
  create((service.method[method] as DescMethod).output, value);
const implementation = {
  getNote: async ({ shelf, id }: Reply) => reply("getNote", { shelf, id, text: `note ${id}` }),
  async createNotes(notes: AsyncIterable<Reply>) {
    const ids: string[] = [];
    for await (const { shelf, id } of notes) ids.push(`${shelf}/${id}`);
    return reply("createNotes", { ids });
  },
  async *listNotes({ shelf, limit = 2 }: Reply) {
    for (let id = 1; id <= limit; id++) yield reply("listNotes", { shelf, id: String(id) });
  },
};
/** Records nothing. */
const trail: AuditTrail = {
  includesReads: false,
  act: (_entry, _isCreation, run) => run(),
  note: () => {},
  refuse: () => {},
};
const define = (desc: DescService) =>
  defineService(desc, implementation as never, (error) => error, metrics.observeCall, trail, {
    of: () => new Map(),
  });
const app = await createServer({
  services: [define(service)],
  trail,
  health: createHealth({ services: [], check: async () => {}, intervalMs: 60_000, timeoutMs: 10_000 }),
  metrics,
  apiKeys: [],
  admitBody: () => async () => ({ [Symbol.dispose]: () => {} }),
  requestBytesMax: 1024 * 1024,
  corsOrigins: [],
  tls: undefined,
  log: pino({ level: "silent" }),
  shutdownSignal: new AbortController().signal,
});
const url = await app.listen({ host: "127.0.0.1", port: 0 });
afterAll(async () => {
  await app.close();
  rmSync(folder, { recursive: true });
});

type Done = (error: Error | null, reply: Reply) => void;

const NoteClient = (
  loadPackageDefinition(
    loadSync("notes.proto", { includeDirs: [folder], keepCase: true, defaults: true }),
  ) as Reply
).notes.v1.NoteService as ServiceClientConstructor;

/** A call by grpc-js, which compiles the proto file itself. */
async function overGrpcJs<Call>(begin: (client: Reply, done: Done) => Call): Promise<Reply> {
  const client = new NoteClient(new URL(url).host, credentials.createInsecure());
  try {
    return await new Promise((resolve, reject) => {
      begin(client, (error, reply) => (error === null ? resolve(reply) : reject(error)));
    });
  } finally {
    client.close();
  }
}

const overConnect = createClient(
  service,
  createConnectTransport({ baseUrl: url, httpVersion: "2" }),
) as unknown as Record<string, (request: unknown) => Reply>;

async function* streamOf(messages: Reply[]) {
  yield* messages;
}

async function collect(messages: AsyncIterable<Reply>): Promise<Reply[]> {
  const all: Reply[] = [];
  for await (const message of messages) all.push(message);
  return all;
}

test("a unary RPC is spoken over gRPC, Connect and REST", async () => {
  const expected = { shelf: "a", id: "7", text: "note 7" };
  const request = { shelf: "a", id: "7" };
  expect(await overGrpcJs((client, done) => client.GetNote(request, done))).toEqual(expected);
  expect(await overConnect["getNote"]?.(request)).toMatchObject(expected);
  expect(await (await fetch(`${url}/v1/shelves/a/notes/7`)).json()).toEqual(expected);
});

test("a client-streaming RPC is spoken over gRPC, Connect and REST", async () => {
  const expected = { ids: ["a/1", "a/2"] };
  const notes = ["1", "2"].map((id) => ({ shelf: "a", id, text: "x" }));
  const byGrpc = await overGrpcJs((client, done) => {
    const call = client.CreateNotes(done);
    for (const note of notes) call.write(note);
    call.end();
  });
  expect(byGrpc).toEqual(expected);
  expect(await overConnect["createNotes"]?.(streamOf(notes))).toMatchObject(expected);
  const post = (body: string, type: string) =>
    fetch(`${url}/v1/shelves/a/notes`, { method: "POST", headers: { "content-type": type }, body });
  const lines = await post('{"id": "1", "text": "x"}\n{"id": "2"}\n', "application/x-ndjson");
  expect(await lines.json()).toEqual(expected);
  expect((await post('{"id": "1"}', "application/json")).status).toBe(415);
  const refused = await post('{"id": "1"}\n{"identifier": "2"}\n', "application/x-ndjson");
  expect(refused.status).toBe(400);
  expect(await refused.json()).toMatchObject({ error: { param: "identifier", code: "unknown_parameter" } });
});

test("a server-streaming RPC is spoken over gRPC, Connect and REST", async () => {
  const expected = ["1", "2", "3"].map((id) => ({ shelf: "a", id, text: "" }));
  const request = { shelf: "a", limit: 3 };
  const client = new NoteClient(new URL(url).host, credentials.createInsecure()) as Reply;
  expect(await collect(client.ListNotes(request))).toEqual(expected);
  client.close();
  expect(await collect(overConnect["listNotes"]?.(request) as never)).toMatchObject(expected);
  const reply = await fetch(`${url}/v1/shelves/a/notes?limit=3`);
  expect(reply.headers.get("content-type")).toContain("application/x-ndjson");
  const lines = (await reply.text()).trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line) as Reply)).toEqual(expected);
});

test("a service with an RPC that deletes, and declares no event of the audit log, does not start", () => {
  const { getNote } = service.method as Record<string, DescMethod>;
  const deleting = { ...service, methods: [{ ...getNote, name: "DeleteNote" }] };
  expect(() => define(deleting as never)).toThrow("deletes or administers: add option (pgquiver.v1.audit)");
});

test("a service with an RPC that declares no scope does not start", () => {
  const { getNote } = service.method as Record<string, DescMethod>;
  const bare = { ...service, methods: [{ ...getNote, proto: { ...getNote?.proto, options: undefined } }] };
  expect(() => define(bare as never)).toThrow("rpc notes.v1.NoteService.GetNote declares no scope");
});
