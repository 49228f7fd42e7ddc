import { get, request, type IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import type { ReadableStream } from "node:stream/web";
import { setTimeout as delay } from "node:timers/promises";
import { once } from "node:events";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { expectError, send } from "../../support/clients/http.ts";
import { grpcJs } from "../../support/clients/ingest-client.ts";
import {
  batch,
  createStore,
  expectExactCounts,
  expectNoLeak,
  ingestAll,
  makeRows,
  open,
  readIds,
} from "../../support/stores/ingest-store.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
const client = grpcJs.connect(server);
afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

let storeId: string;
beforeEach(async () => {
  storeId = await createStore(server);
});

const exportUrl = (id = storeId, query = "") =>
  `${server.url}/v1/vector_stores/${id}/embeddings/export${query}`;

async function fill(count: number): Promise<string[]> {
  const rows = makeRows(count);
  await ingestAll(client, [open(storeId), batch(1, rows), { finish: { rows: count } }]);
  return rows.map(({ id }) => id as string);
}

async function exportLines(url: string): Promise<Record<string, unknown>[]> {
  const reply = await fetch(url);
  expect(reply.status).toBe(200);
  expect(reply.headers.get("content-type")).toBe("application/x-ndjson; charset=utf-8");
  const text = await reply.text();
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

test.each([0, 1, 100, 101, 350])("an export of %i rows is complete and in order of id", async (count) => {
  const ids = await (count === 0 ? [] : fill(count));
  expect((await exportLines(exportUrl())).map(({ id }) => id)).toEqual(ids);
});

test("an export goes on after an id, which need not exist", async () => {
  const ids = await fill(150);
  const idsAfter = async (after: string) =>
    (await exportLines(exportUrl(storeId, `?after=${after}`))).map(({ id }) => id);
  expect(await idsAfter("r000119")).toEqual(ids.slice(120));
  expect(await idsAfter("r000119x")).toEqual(ids.slice(120));
  expect(await idsAfter("zzz")).toEqual([]);
  expect(await idsAfter("")).toEqual(ids);
});

test("an export that is piped into another store makes it equal, to the bit", async () => {
  const vectors = [
    [0.1, -0, 3.4e38, 1e-45],
    [Math.PI, -1e-30, 16_777_217, 1],
  ];
  const rows = Array.from({ length: 230 }, (_, index) => ({
    id: `row:${index}`,
    content: `ä€🐘 "quoted" \\ ${index}\n\u0007`,
    embedding: (vectors[index % 2] as number[]).map((number) => number / (1 + index)),
    metadata: { index, nested: { list: [1.5, null, true, "ä\\u0000"] }, ключ: "", __proto__: null },
    created_at: 1_000_000_000 + index,
  }));
  await ingestAll(client, [open(storeId), batch(1, rows), { finish: { rows: 230 } }]);
  const copy = await createStore(server);
  const exported = await fetch(exportUrl());
  const reply = await fetch(`${server.url}/v1/vector_stores/${copy}/embeddings/ingest`, {
    method: "PUT",
    body: Readable.from(exported.body as ReadableStream<Uint8Array>),
    duplex: "half",
  } as RequestInit);
  expect(await reply.json()).toMatchObject({ state: "completed", rows_written: 230, rows_rejected: 0 });
  const read = async (id: string) => {
    const sql = `select id, content, vector_send(embedding) as vector, metadata, created_at from embeddings where vector_store_id = $1 order by id`;
    return (await pool.query(sql, [id])).rows;
  };
  const [before, after] = [await read(storeId), await read(copy)];
  expect(after).toHaveLength(230);
  expect(after).toEqual(before);
  await expectExactCounts(server, copy);
});

test("over gRPC the same rows come as messages", async () => {
  const ids = await fill(120);
  const grpc = createClient(IngestService, createGrpcTransport({ baseUrl: server.url }));
  const exported = [];
  for await (const row of grpc.exportEmbeddings({ vectorStoreId: storeId })) exported.push(row);
  expect(exported.map(({ id }) => id)).toEqual(ids);
  const { content, embedding, metadata } = exported[7] ?? {};
  expect({ content, metadata }).toEqual({ content: "text 7", metadata: {} });
  expect(new Float32Array(Uint8Array.from(embedding ?? []).buffer)).toEqual(Float32Array.of(1, 7));
});

test("an error before the first line is answered as any other", async () => {
  expectError(await send(exportUrl("vs_none"), "GET"), 404, { param: "vector_store_id", code: null });
  expectError(await send(exportUrl(storeId, "?limit=5"), "GET"), 400, {
    param: "limit",
    code: "unknown_parameter",
  });
});

test("a store that has expired can still be exported", async () => {
  await fill(3);
  await pool.query("update vector_stores set expires_at = now() - interval '1 second' where id = $1", [
    storeId,
  ]);
  expect(await exportLines(exportUrl())).toHaveLength(3);
});

test("an export that its client gives up leaks nothing, however often", async () => {
  const rows = makeRows(300).map((row) => ({ ...row, content: "x".repeat(20_000) }));
  await ingestAll(client, [open(storeId), batch(1, rows), { finish: { rows: 300 } }]);
  for (let round = 0; round < 10; round++) {
    const request = get(exportUrl(), { agent: false });
    const [response] = (await once(request, "response")) as [Readable];
    if (round % 2 === 0) await once(response, "data");
    response.destroy();
    await once(request, "close");
  }
  const grpc = createClient(IngestService, createGrpcTransport({ baseUrl: server.url }));
  for await (const _ of grpc.exportEmbeddings({ vectorStoreId: storeId })) break;
  await expectNoLeak(server);
  expect(await exportLines(exportUrl())).toHaveLength(300);
  expect(await readIds(server, storeId)).toHaveLength(300);
});

test("a caller of Connect who hangs up amid an export leaves no trace on the console", async () => {
  const noise = vi.spyOn(console, "error");
  onTestFinished(() => noise.mockRestore());
  const rows = makeRows(1_000).map((row) => ({ ...row, content: "x".repeat(20_000) }));
  await ingestAll(client, [open(storeId), batch(1, rows), { finish: { rows: rows.length } }]);
  const json = Buffer.from(JSON.stringify({ vectorStoreId: storeId }));
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(json.length, 1);
  const call = request(`${server.url}/${IngestService.typeName}/ExportEmbeddings`, {
    method: "POST",
    headers: { "content-type": "application/connect+json" },
  });
  call.on("error", () => {}).end(Buffer.concat([prefix, json]));
  const [reply] = (await once(call, "response")) as [IncomingMessage];
  expect(reply.statusCode).toBe(200);
  // Until what nobody reads holds up the service in the midst of a write.
  await delay(500);
  call.destroy();
  await expectNoLeak(server);
  await exportLines(exportUrl());
  expect(noise).not.toHaveBeenCalled();
});
