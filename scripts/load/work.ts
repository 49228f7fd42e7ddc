import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { encodeMessage, sendIngest } from "../../bench/support/ingest.ts";
import type { Points, Spread } from "../../bench/support/points.ts";
import { toBase64 } from "../../bench/support/searches.ts";
import { interruption } from "../../bench/support/interruption.ts";
import type { BenchServer } from "../../bench/support/server.ts";
import type { Call } from "./callers.ts";

const QUERIES = 1_000;
const BATCH_ROWS = 200;

/** Searches of a store that has the first `rows` points, each for one of the points that follow. */
export function searches(points: Points, store: string, rows: number): () => Call {
  const bodies = Array.from({ length: QUERIES }, (_, index) =>
    Buffer.from(JSON.stringify({ embedding: toBase64(points.at(rows + index)), max_num_results: 10 })),
  );
  let calls = 0;
  return () => ({
    kind: "search",
    path: `/v1/vector_stores/${store}/search`,
    body: bodies[calls++ % QUERIES] as Buffer,
  });
}

/** Where a service is, and its key. */
type Target = Pick<BenchServer, "address" | "key">;

/** What the process of `ingestApart` is told. */
export interface IngestOrder {
  server: Target;
  spread: Spread;
  seconds: number;
}

/**
 * Like `ingest`, in a process of its own: encoding messages takes the client some 10 ms at a time, for which callers in
 * the same process could not take note of their answers.
 */
export async function ingestApart(
  { address, key }: BenchServer,
  spread: Spread,
  seconds: number,
): Promise<number> {
  const client = fork(join(import.meta.dirname, "ingest-client.ts"), {
    signal: interruption,
    killSignal: "SIGKILL",
  });
  const kill = () => client.kill("SIGKILL");
  process.once("exit", kill);
  const ended = once(client, "exit").then(() => Promise.reject(new Error("The client of the ingest ended.")));
  ended.catch(() => {});
  client.send({ server: { address, key }, spread, seconds } satisfies IngestOrder);
  const [perSecond] = (await Promise.race([once(client, "message"), ended])) as [number];
  process.off("exit", kill);
  return perSecond;
}

/** Loads rows into another store, over gRPC and as fast as the service takes them. Returns the rows per second. */
export async function ingest(server: Target, points: Points, seconds: number): Promise<number> {
  const store = `bulk-${crypto.randomUUID()}`;
  await post(server, "/v1/vector_stores", { id: store });
  await post(server, `/v1/vector_stores/${store}/index`, { policy: "never" });
  const rows = Array.from({ length: BATCH_ROWS }, (_, row) => ({
    content: `bulk ${row}`,
    embedding: Array.from(points.at(row)),
  }));
  const endAt = performance.now() + seconds * 1000;
  function* batches(): Generator<Buffer> {
    for (let seq = 1n; performance.now() < endAt; seq++)
      yield encodeMessage({ case: "batch", value: { seq, rows } });
  }
  const { rowsWritten } = await sendIngest(server, { vectorStoreId: store }, batches());
  await send(server, `/v1/vector_stores/${store}`, { method: "DELETE" });
  return Math.round(Number(rowsWritten) / seconds);
}

/** Posts JSON or a form, and returns the JSON of the reply. */
export async function post(server: Target, path: string, body: object): Promise<Record<string, unknown>> {
  if (body instanceof FormData) return send(server, path, { method: "POST", body });
  const headers = { "content-type": "application/json" };
  return send(server, path, { method: "POST", body: JSON.stringify(body), headers });
}

/** Sends a request, and returns the JSON of the reply; throws if that is an error. */
export async function send(
  server: Target,
  path: string,
  init: { method?: string; body?: string | FormData; headers?: Record<string, string> } = {},
): Promise<Record<string, unknown>> {
  const headers = { ...init.headers, authorization: `Bearer ${server.key}` };
  const reply = await fetch(`http://${server.address}${path}`, { ...init, headers });
  const json = (await reply.json()) as Record<string, unknown>;
  if (!reply.ok) throw new Error(`${path}: ${reply.status} ${JSON.stringify(json)}`);
  return json;
}
