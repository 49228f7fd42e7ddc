import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import OpenAI from "openai";
import { afterAll, describe, expect, test } from "vitest";
import {
  ErrorInfoSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from "../../../gen/google/rpc/error_details_pb.ts";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { EmbeddingService, WriteMode } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import type { Quotas } from "../../../src/access/projects.ts";
import type { Embedder } from "../../../src/models/embedder.ts";
import { createLexicalEmbedder } from "../../../src/models/lexical.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { filePart, form, FORM_TYPE, textPart } from "../../support/clients/form.ts";
import { send } from "../../support/clients/http.ts";
import { openIngest } from "../../support/clients/ingest-session.ts";
import { makeTestKey } from "../../support/stores/keys.ts";
import { startServer } from "../../support/servers/server.ts";

const root = "a-key-of-the-environment";
const database = await openTestDatabase();
const lexical = createLexicalEmbedder();
/** The texts that the servers have embedded. */
const embedded: string[] = [];
const embedder: Embedder = {
  ...lexical,
  embed(texts, ...rest) {
    embedded.push(...texts);
    return lexical.embed(texts, ...rest);
  },
};
const servers = [
  await startServer({ database, apiKeys: [root], embedder }),
  await startServer({ database, apiKeys: [root], embedder }),
] as const;
const [server] = servers;
afterAll(async () => {
  for (const each of servers) await each[Symbol.asyncDispose]();
  await database.close();
});

const ask = async (
  key: string,
  verb: string,
  path: string,
  body?: object,
  { url }: { url: string } = server,
) => {
  const reply = await send(`${url}/v1${path}`, verb, body && JSON.stringify(body), {
    authorization: `Bearer ${key}`,
    ...(body && { "content-type": "application/json" }),
  });
  return { ...reply, body: JSON.parse(reply.text) };
};

async function makeTeam(quotas: Quotas) {
  const { body } = await ask(root, "POST", "/organization/projects", { name: "Team", quotas });
  expect(body.quotas).toMatchObject(quotas);
  return { project: body.id as string, key: await makeTestKey(database, body.id) };
}

const rowsOf = (count: number, content = "x") =>
  Array.from({ length: count }, (_, n) => ({ content, embedding: [n + 1, 1, 1] }));
const add = (key: string, store: string, count: number, content?: string, on: { url: string } = server) =>
  ask(key, "POST", `/vector_stores/${store}/embeddings/batch`, { embeddings: rowsOf(count, content) }, on);
const makeStores = async (key: string, ...ids: string[]) => {
  for (const id of ids) expect((await ask(key, "POST", "/vector_stores", { id })).status).toBe(200);
};
const countOf = async (key: string, store: string) =>
  (await ask(key, "GET", `/vector_stores/${store}`)).body.embedding_count as number;

describe("rows and bytes", () => {
  test("beyond the quota are refused whole, and what is deleted is given back", async () => {
    const { project, key } = await makeTeam({ max_rows: 10 });
    await makeStores(key, "a", "b");
    expect((await add(key, "a", 4)).status).toBe(200);
    expect((await add(key, "b", 4)).status).toBe(200);
    const refused = await add(key, "a", 5);
    expect(refused.status).toBe(429);
    expect(refused.body.error).toEqual({
      message: `Project '${project}' would exceed its quota 'max_rows' of 10 embeddings: it has 8, and this request adds 5, 3 too many.`,
      type: "insufficient_quota",
      param: null,
      code: "insufficient_quota",
    });
    expect(refused.headers.get("x-should-retry")).toBe("false");
    expect(await countOf(key, "a")).toBe(4);
    expect((await add(key, "a", 2)).status).toBe(200);
    expect((await add(key, "b", 1)).status).toBe(429);
    await ask(key, "DELETE", "/vector_stores/a");
    expect((await add(key, "b", 6)).status).toBe(200);
    expect((await add(key, "b", 1)).status).toBe(429);
    await ask(key, "POST", "/vector_stores/b/embeddings/purge", {
      filters: { type: "ne", key: "k", value: 1 },
    });
    expect(await countOf(key, "b")).toBe(0);
    expect((await add(key, "b", 10)).status).toBe(200);
  });

  test("of large batches and of texts are counted too", async () => {
    const { key } = await makeTeam({ max_bytes: 1_000 });
    await makeStores(key, "a", "b");
    expect((await add(key, "a", 9, "x".repeat(100))).status).toBe(200);
    const { body } = await add(key, "b", 20, "é".repeat(5));
    expect(body.error.message).toContain(
      "'max_bytes' of 1000 bytes of text: it has 900, and this request adds 200, 100 too many",
    );
    expect((await add(key, "b", 10, "é".repeat(5))).status).toBe(200);
    expect((await add(key, "b", 1)).status).toBe(429);
  });

  test("are given to whoever needs them: a store does not keep what it has reserved", async () => {
    const { key } = await makeTeam({ max_rows: 1_000 });
    await makeStores(key, "a", "b");
    expect((await add(key, "a", 1)).status).toBe(200);
    expect((await add(key, "b", 999)).status).toBe(200);
    expect((await add(key, "a", 1)).status).toBe(429);
  });

  test("follow a changed quota", async () => {
    const { project, key } = await makeTeam({ max_rows: 1_000 });
    const set = (quotas: Quotas) => ask(root, "POST", `/organization/projects/${project}`, { quotas });
    await makeStores(key, "a");
    await add(key, "a", 10);
    // The store has reserved more than the new quota allows.
    await set({ max_rows: 12 });
    expect((await add(key, "a", 3)).status).toBe(429);
    expect((await add(key, "a", 2)).status).toBe(200);
    expect((await set({})).body).toMatchObject({ quotas: null });
    expect((await add(key, "a", 500)).status).toBe(200);
    await set({ max_rows: 12 });
    expect((await add(key, "a", 1)).body.error.message).toContain(
      "it has 512, and this request adds 1, 501 too many",
    );
    // Other projects have their own.
    const other = await makeTeam({});
    await makeStores(other.key, "a");
    expect((await add(other.key, "a", 100)).status).toBe(200);
  });

  test("are refused over gRPC with QuotaFailure, without RetryInfo", async () => {
    const { project, key } = await makeTeam({ max_rows: 0 });
    await makeStores(key, "a");
    const client = createClient(EmbeddingService, createGrpcTransport({ baseUrl: server.url }));
    const request = { vectorStoreId: "a", embedding: { content: "x", embedding: [1, 2, 3] } };
    const error = await client.createEmbedding(request, { headers: { authorization: `Bearer ${key}` } }).then(
      () => expect.unreachable(),
      (reason: unknown) => ConnectError.from(reason),
    );
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
      { reason: "INSUFFICIENT_QUOTA", metadata: { limit: "max_rows" } },
    ]);
    expect(error.findDetails(QuotaFailureSchema)).toMatchObject([
      { violations: [{ subject: `project:${project}` }] },
    ]);
    expect(error.findDetails(RetryInfoSchema)).toEqual([]);
    const { text } = await send(`${server.url}/metrics`, "GET", undefined, {
      authorization: `Bearer ${root}`,
    });
    expect(text).toMatch(/^pgquiver_limited_total\{limit="max_rows"\} \d+$/m);
  });

  test("of an ingest end it with its last group that fits", async () => {
    const { key } = await makeTeam({ max_rows: 10 });
    await makeStores(key, "a");
    const stream = openIngest(server, key, "a");
    await stream.opened;
    stream.send(1, rowsOf(8));
    await expect.poll(() => countOf(key, "a"), { timeout: 10_000 }).toBe(8);
    stream.send(2, rowsOf(5));
    stream.finish(13);
    await expect(stream.summary).rejects.toThrow("it has 8, and this request adds 5, 3 too many");
    expect(await countOf(key, "a")).toBe(8);
  });

  test("are not asked for by rows that replace others", async () => {
    const { key } = await makeTeam({ max_rows: 3, max_bytes: 3 });
    await makeStores(key, "a");
    const rows = rowsOf(3).map((row, n) => ({ ...row, id: `r${n}` }));
    for (const round of [1, 2]) {
      const stream = openIngest(server, key, "a", { mode: WriteMode.UPSERT, ingestId: `i${round}` });
      stream.send(1, rows);
      stream.finish(3);
      expect(await stream.summary).toMatchObject({ rowsWritten: 3n });
    }
    expect(await countOf(key, "a")).toBe(3);
  });

  test.each([1, 7])(
    "are exact while two processes write %i rows at a time into four stores",
    async (size) => {
      const max = size * 60 + 3;
      const { key } = await makeTeam({ max_rows: max });
      const stores = ["a", "b", "c", "d"];
      await makeStores(key, ...stores);
      const written = await Promise.all(
        Array.from({ length: 16 }, async (_, writer) => {
          let rows = 0;
          for (;;) {
            const { status, body, headers } = await add(
              key,
              stores[writer % 4] as string,
              size,
              undefined,
              servers[writer % 2],
            );
            if (status === 200) rows += size;
            // Others were using the rest at that moment.
            else if (headers.get("retry-after") === null) {
              expect(body.error.code, JSON.stringify(body)).toBe("insufficient_quota");
              return rows;
            }
          }
        }),
      );
      const total = written.reduce((sum, rows) => sum + rows, 0);
      expect(total).toBe(size * Math.floor(max / size));
      const counts = await Promise.all(stores.map((store) => countOf(key, store)));
      expect(counts.reduce((sum, rows) => sum + rows, 0)).toBe(total);
    },
  );
});

describe("stores and files", () => {
  test("of a project have a quota of their number", async () => {
    const { key } = await makeTeam({ max_stores: 3 });
    const replies = await Promise.all(
      Array.from({ length: 8 }, (_, n) =>
        ask(key, "POST", "/vector_stores", { id: `s${n}` }, servers[n % 2]),
      ),
    );
    expect(replies.filter(({ status }) => status === 200)).toHaveLength(3);
    const refused = replies.find(({ status }) => status !== 200);
    expect(refused?.body.error).toMatchObject({
      code: "insufficient_quota",
      message: expect.stringContaining(
        "'max_stores' of 3 vector stores: it has 3, and this request adds 1, 1 too many",
      ),
    });
    const made = replies.find(({ status }) => status === 200);
    await ask(key, "DELETE", `/vector_stores/${made?.body.id}`);
    expect((await ask(key, "POST", "/vector_stores", {})).status).toBe(200);
    expect((await ask(key, "POST", "/vector_stores", {})).status).toBe(429);
  });

  const upload = (key: string, text: string, { url } = server) =>
    send(`${url}/v1/files`, "POST", form(textPart("purpose", "assistants"), filePart(text)), {
      authorization: `Bearer ${key}`,
      ...FORM_TYPE,
    });

  test("uploads are counted, and refused before they are read", async () => {
    const { key } = await makeTeam({ max_files: 1 });
    const first = await upload(key, "hello");
    expect(first.status, first.text).toBe(200);
    expect((await upload(key, "hello")).status).toBe(429);
    await ask(key, "DELETE", `/files/${JSON.parse(first.text).id}`);
    const together = await Promise.all([upload(key, "a"), upload(key, "b"), upload(key, "c")]);
    expect(together.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 429, 429]);
  });

  test("of bytes are exact while two processes upload, and give back what is deleted", async () => {
    const { project, key } = await makeTeam({ max_file_bytes: 100 });
    const uploads = Array.from({ length: 12 }, (_, n) => upload(key, "x".repeat(30), servers[n % 2]));
    const replies = await Promise.all(uploads);
    const taken = replies.filter(({ status }) => status === 200);
    expect(taken).toHaveLength(3);
    expect(replies.filter(({ status }) => status === 429)).toHaveLength(9);
    const refused = await upload(key, "x".repeat(11));
    expect(refused.headers.get("x-should-retry")).toBe("false");
    expect(JSON.parse(refused.text).error).toMatchObject({
      code: "insufficient_quota",
      message: `Project '${project}' would exceed its quota 'max_file_bytes' of 100 bytes of files: it has 90, and this request adds 11, 1 too many.`,
    });
    expect((await upload(key, "x".repeat(10))).status).toBe(200);
    expect((await upload(key, "")).status).toBe(200);
    expect((await upload(key, "x")).status).toBe(429);
    await ask(key, "DELETE", `/files/${JSON.parse(taken[0]?.text as string).id}`);
    expect((await upload(key, "x".repeat(30))).status).toBe(200);
    const { rows } = await database.pool.query(
      `select sum(bytes)::int as bytes from ${database.tables.files} where project_id = $1 and state = 'ready'`,
      [project],
    );
    expect(rows).toEqual([{ bytes: 100 }]);
  });

  test("of bytes end an upload of several parts where it is too long", async () => {
    const { project, key } = await makeTeam({ max_file_bytes: 2_500_000 });
    let sent = 0;
    const client = createClient(FileService, createGrpcTransport({ baseUrl: server.url }));
    async function* messages(metadata: object, bytes: number) {
      yield { part: { case: "metadata", value: { filename: "a.txt", purpose: "assistants", ...metadata } } };
      for (; sent < bytes; sent += 65_536) yield { part: { case: "data", value: new Uint8Array(65_536) } };
    }
    const send = (metadata: object, bytes: number) =>
      client.uploadFile(messages(metadata, bytes) as never, {
        headers: { authorization: `Bearer ${key}` },
      });
    await expect(send({}, 1_000_000_000)).rejects.toThrow("its quota 'max_file_bytes' of 2500000 bytes");
    expect(sent).toBeLessThan(100_000_000);
    sent = 0;
    await expect(send({ bytes: 3_000_000n }, 3_000_000)).rejects.toThrow("this request adds 3000000");
    sent = 0;
    expect((await send({}, 2_000_000)).bytes).toBe(2_031_616n);
    const { rows } = await database.pool.query(
      `select count(*)::int as files from ${database.tables.files} where project_id = $1 and state <> 'deleted'`,
      [project],
    );
    expect(rows).toEqual([{ files: 1 }]);
  });

  test("a file that does not fit fails, and says so", async () => {
    const { key } = await makeTeam({ max_rows: 2 });
    const client = new OpenAI({ apiKey: key, baseURL: `${server.url}/v1` });
    const { id: store } = await client.vectorStores.create({ name: "s" });
    const text = Array.from({ length: 900 }, (_, n) => `word${n}`).join(" ");
    const { id: file } = JSON.parse((await upload(key, text)).text);
    const attached = await client.vectorStores.files.createAndPoll(store, { file_id: file });
    expect(attached).toMatchObject({
      status: "failed",
      last_error: {
        code: "server_error",
        message: expect.stringContaining("its quota 'max_rows' of 2 embeddings"),
      },
    });
    expect(await countOf(key, store)).toBe(0);
    // Nobody pays for chunks that are not stored.
    expect(embedded.filter((chunk) => chunk.includes("word1 "))).toEqual([]);
  });
});
