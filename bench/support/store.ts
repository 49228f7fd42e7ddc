import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Points } from "./points.ts";
import type { BenchServer } from "./server.ts";

/** The store to be created. */
export interface StorePlan {
  id: string;
  points: Points;
  rows: number;
  /** Precision of the store's index; "none": no index. */
  precision: "float32" | "float16" | "binary" | "none";
}

/** Build time and sizes of an index. */
export interface BuiltIndex {
  seconds: number;
  indexBytes: number;
  tableBytes: number;
}

const POLL_MS = 50;

/**
 * Creates a store through the service in the order that suits bulk loads: NDJSON ingest with index policy
 * `never`, then an index, waiting until searches use it. Point n becomes row `n`, with metadata for filters.
 */
export async function makeStore(server: BenchServer, plan: StorePlan): Promise<BuiltIndex> {
  const { id, points, rows, precision } = plan;
  await createStore(server, id);
  await load(server, id, points, rows);
  if (precision === "none") return { seconds: 0, indexBytes: 0, tableBytes: 0 };
  return buildIndex(server, id, precision);
}

/** Creates a store whose rows stay in the shared table, without an index: index policy `never`. */
export async function createStore(server: BenchServer, id: string): Promise<void> {
  await call(server, "POST", "/v1/vector_stores", { id });
  await call(server, "POST", `/v1/vector_stores/${id}/index`, { policy: "never" });
}

/** Deletes a store and its rows. */
export async function deleteStore(server: BenchServer, id: string): Promise<void> {
  await call(server, "DELETE", `/v1/vector_stores/${id}`);
}

/** Requests an index for the store, or one of another precision, and waits until searches use it. */
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

/** Declares an attribute of the store, and waits until its index is ready. */
export async function declareAttribute(
  server: BenchServer,
  id: string,
  attribute: { key: string; type: "number" | "string" },
): Promise<void> {
  const path = `/v1/vector_stores/${id}/index`;
  await call(server, "POST", path, { indexed_attributes: [attribute] });
  for (;;) {
    const index = (await call(server, "GET", path)) as { attribute_indexes: { state: string }[] };
    if (index.attribute_indexes.every(({ state }) => state === "ready")) return;
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

/** Sends a JSON request to the service. Throws unless it succeeds. */
export async function call(
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
