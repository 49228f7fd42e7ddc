import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { createClient } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { OpenAI, toFile } from "openai";
import { afterAll, expect, test } from "vitest";
import { IndexService, IndexState } from "../../../gen/pgquiver/v1/indexes_pb.ts";
import { IngestService, IngestState } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import {
  VectorStoreFileService,
  VectorStoreFileStage,
  VectorStoreFileStatus,
} from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { makeSlowPdf } from "../../support/stores/documents.ts";
import { uploadText } from "../../support/stores/files.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer({ indexes: { isWorking: true }, indexPollMs: 200 });
afterAll(() => server[Symbol.asyncDispose]());
const { pool } = server.database;
const openai = new OpenAI({ apiKey: "any", baseURL: `${server.url}/v1`, maxRetries: 0 });
const baseUrl = server.url;
const grpc = createGrpcTransport({ baseUrl });

let count = 0;
async function openIngest() {
  const key = { vectorStoreId: `watched_${++count}`, ingestId: "load" };
  await pool.query("insert into vector_stores (id) values ($1)", [key.vectorStoreId]);
  await pool.query(
    "insert into pgquiver_ingests (vector_store_id, ingest_id, parameters, rows_announced) values ($1, $2, '{}', 100)",
    [key.vectorStoreId, key.ingestId],
  );
  const update = (change: string) =>
    pool.query(`update pgquiver_ingests set ${change} where vector_store_id = $1`, [key.vectorStoreId]);
  return { key, update };
}

test.each([
  ["gRPC", grpc],
  ["gRPC-Web", createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })],
  ["Connect", createConnectTransport({ baseUrl, httpVersion: "1.1" })],
])("an ingest is watched over %s from its present state to its end", async (_name, transport) => {
  const { key, update } = await openIngest();
  const states = createClient(IngestService, transport).watchIngest(key)[Symbol.asyncIterator]();
  const next = async () => ((await states.next()) as { value: Record<string, unknown> }).value;
  expect(await next()).toMatchObject({ state: IngestState.OPEN, rowsWritten: 0n, totalRows: 100n });
  await update("rows_written = 40, row_bytes = 4000");
  const moving = await next();
  expect(moving).toMatchObject({ rowsWritten: 40n, rowBytes: 4000n, vectorStoreId: key.vectorStoreId });
  expect(moving["rowsPerSecond"]).toBeGreaterThan(0);
  expect(moving["secondsLeft"]).toBeGreaterThan(0);
  await update("rows_written = 100, state = 'completed'");
  for (let state = await next(); ; state = await next()) {
    if (state["state"] !== IngestState.COMPLETED) continue;
    expect(state).toMatchObject({ rowsWritten: 100n });
    break;
  }
  expect((await states.next()).done).toBe(true);
});

test("over REST the states are server-sent events, and so is the error that ends them", async () => {
  const { key } = await openIngest();
  const path = `/v1/vector_stores/${key.vectorStoreId}/ingests/${key.ingestId}/watch`;
  const [response] = (await once(get(server.url + path), "response")) as [IncomingMessage];
  expect(response.headers["content-type"]).toBe("text/event-stream; charset=utf-8");
  let text = "";
  let isDeleted = false;
  for await (const chunk of response.setEncoding("utf8")) {
    text += chunk as string;
    if (!isDeleted) await pool.query("delete from vector_stores where id = $1", [key.vectorStoreId]);
    isDeleted = true;
  }
  const [first, error] = text.split("\n\n");
  expect(JSON.parse(String(first).replace("data: ", ""))).toMatchObject({
    object: "ingest",
    total_rows: 100,
  });
  expect(error).toMatch(/^event: error\ndata: \{"error":\{"message":"No vector store found/);
  const absent = await fetch(server.url + path);
  expect([absent.status, absent.headers.get("content-type")]).toEqual([
    404,
    "application/json; charset=utf-8",
  ]);
});

test("a file shows what is read of it, and what became of it", async () => {
  const files = createClient(VectorStoreFileService, grpc);
  const { id: vectorStoreId } = await openai.vectorStores.create({});
  const slow = await openai.files.create({
    file: await toFile(makeSlowPdf(), "a.pdf"),
    purpose: "assistants",
  });
  await files.createVectorStoreFile({ vectorStoreId, fileId: slow.id });
  const stages = new Set<VectorStoreFileStage | undefined>();
  for await (const { progress } of files.watchVectorStoreFile({ vectorStoreId, fileId: slow.id })) {
    stages.add(progress?.stage);
    if (progress?.stage !== VectorStoreFileStage.READING) continue;
    if (progress.bytesRead > 0n && progress.bytesRead === progress.bytesTotal) break;
  }
  await files.deleteVectorStoreFile({ vectorStoreId, fileId: slow.id });
  const fileId = await uploadText(openai, "A text about herons.");
  const batch = await files.createVectorStoreFileBatch({ vectorStoreId, fileIds: [fileId] });
  let last;
  for await (last of files.watchVectorStoreFileBatch({ vectorStoreId, batchId: batch.id }));
  expect(last?.fileCounts).toMatchObject({ completed: 1n, inProgress: 0n });
  let file;
  for await (file of files.watchVectorStoreFile({ vectorStoreId, fileId }));
  expect(file).toMatchObject({ status: VectorStoreFileStatus.COMPLETED });
  expect(file?.progress).toBeUndefined();
});

test("an index is watched until it is ready", async () => {
  const { id: vectorStoreId } = await openai.vectorStores.create({});
  const rows = Array.from({ length: 500 }, (_, n) => ({ content: `row ${n}`, embedding: [n, 1, 2] }));
  await fetch(`${server.url}/v1/vector_stores/${vectorStoreId}/embeddings/batch`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ embeddings: rows }),
  });
  const indexes = createClient(IndexService, grpc);
  await indexes.updateIndex({ vectorStoreId, policy: 2 });
  const states: IndexState[] = [];
  for await (const { state } of indexes.watchIndex({ vectorStoreId })) states.push(state);
  expect(states.at(-1)).toBe(IndexState.READY);
});
