import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Points } from "./points.ts";
import type { BenchServer } from "./server.ts";

/** What a store is to be. */
export interface StorePlan {
  id: string;
  points: Points;
  rows: number;
  /** What its index keeps of each vector; "none": it has no index. */
  precision: "float32" | "float16" | "binary" | "none";
}

/** How an index came about. */
export interface BuiltIndex {
  seconds: number;
  indexBytes: number;
  tableBytes: number;
}

const POLL_MS = 250;

/**
 * Makes a store through the service, as an operator with many rows would: loads them by NDJSON while an index is
 * forbidden, then asks for it and waits until it is in use. Point n becomes row `n`, with metadata for filters.
 */
export async function makeStore(server: BenchServer, plan: StorePlan): Promise<BuiltIndex> {
  const { id, points, rows, precision } = plan;
  await call(server, "POST", "/v1/vector_stores", { id });
  await call(server, "POST", `/v1/vector_stores/${id}/index`, { policy: "never" });
  await load(server, id, points, rows);
  if (precision === "none") return { seconds: 0, indexBytes: 0, tableBytes: 0 };
  return buildIndex(server, id, precision);
}

/** Asks for an index of the store, or for one of another precision, and waits until it is in use. */
export async function buildIndex(
  server: BenchServer,
  id: string,
  precision: "float32" | "float16" | "binary",
): Promise<BuiltIndex> {
  const startedAt = performance.now();
  const path = `/v1/vector_stores/${id}/index`;
  await call(server, "POST", path, { policy: "always", precision });
  for (;;) {
    const index = await call(server, "GET", path);
    if (index["last_error"] !== null)
      throw new Error(`The index of ${id} failed: ${JSON.stringify(index["last_error"])}`);
    if (index["state"] === "ready" && index["precision"] === precision) {
      return {
        seconds: (performance.now() - startedAt) / 1000,
        indexBytes: Number(index["index_bytes"]),
        tableBytes: Number(index["table_bytes"]),
      };
    }
    await sleep(POLL_MS);
  }
}

async function load(server: BenchServer, id: string, points: Points, rows: number): Promise<void> {
  function* lines(): Generator<string> {
    for (let index = 0; index < rows; index++) {
      const embedding = Buffer.from(points.at(index).buffer).toString("base64");
      const metadata = { position: index, tenth: index % 10, thousandth: index % 1000 };
      yield `${JSON.stringify({ id: String(index), content: `text ${index}`, embedding, metadata })}\n`;
    }
  }
  const reply = await fetch(`http://${server.address}/v1/vector_stores/${id}/embeddings/ingest`, {
    method: "POST",
    headers: { authorization: `Bearer ${server.key}`, "content-type": "application/x-ndjson" },
    body: Readable.toWeb(Readable.from(lines())) as ReadableStream,
    duplex: "half",
  } as RequestInit);
  const summary = (await reply.json()) as { rows_written?: number };
  if (summary.rows_written !== rows)
    throw new Error(`Loading ${id}: ${JSON.stringify(summary).slice(0, 500)}`);
}

async function call(
  server: BenchServer,
  method: string,
  path: string,
  body?: object,
): Promise<Record<string, unknown>> {
  const reply = await fetch(`http://${server.address}${path}`, {
    method,
    headers: { authorization: `Bearer ${server.key}`, "content-type": "application/json" },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const json = (await reply.json()) as Record<string, unknown>;
  if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${JSON.stringify(json)}`);
  return json;
}
