import { readFileSync } from "node:fs";
import { Agent, request, type IncomingMessage } from "node:http";
import { once } from "node:events";
import type { BenchServer } from "../../bench/support/server.ts";

/** One request of a caller. */
export interface Call {
  kind: "search" | "insert";
  path: string;
  body: Buffer;
}

/** What callers got in a period. */
export interface Experience {
  name: string;
  perSecond: number;
  searchP50Ms: number;
  searchP99Ms: number;
  insertP50Ms: number;
  insertP99Ms: number;
  /** Answered 429 or 503: the service had too much to do and said so. */
  refused: number;
  /** Anything else but 200. */
  failed: number;
  /** The service's largest resident memory in the period. */
  peakMiB: number;
}

const SAMPLE_MS = 100;
const REFUSALS = new Set([429, 503]);

/**
 * Keeps `connections` kept-alive HTTP/1.1 connections busy, each with one request at a time, until `until`
 * resolves. What was sent before is measured too, once it is answered.
 */
export async function measureCallers(
  server: BenchServer,
  name: string,
  connections: number,
  until: Promise<unknown>,
  nextCall: () => Call,
): Promise<Experience> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const times = { search: [] as number[], insert: [] as number[] };
  let [refused, failed, answered] = [0, 0, 0];
  let isOver = false;
  let peakMiB = 0;
  const sampling = setInterval(() => (peakMiB = Math.max(peakMiB, memoryMiB(server.pid))), SAMPLE_MS);
  const callUntilOver = async () => {
    while (!isOver) {
      const { kind, path, body } = nextCall();
      const startedAt = performance.now();
      const status = await post(server, agent, path, body).catch(() => 0);
      if (status === 200) times[kind].push(performance.now() - startedAt);
      else if (REFUSALS.has(status)) refused++;
      else failed++;
      answered++;
    }
  };
  const startedAt = performance.now();
  void until.catch(() => {}).then(() => (isOver = true));
  try {
    await Promise.all([until, ...Array.from({ length: connections }, callUntilOver)]);
  } finally {
    isOver = true;
    clearInterval(sampling);
    agent.destroy();
  }
  return {
    name,
    perSecond: answered / ((performance.now() - startedAt) / 1000),
    searchP50Ms: quantile(times.search, 0.5),
    searchP99Ms: quantile(times.search, 0.99),
    insertP50Ms: quantile(times.insert, 0.5),
    insertP99Ms: quantile(times.insert, 0.99),
    refused,
    failed,
    peakMiB,
  };
}

async function post(server: BenchServer, agent: Agent, path: string, body: Buffer): Promise<number> {
  const call = request(`http://${server.address}${path}`, {
    agent,
    method: "POST",
    headers: {
      authorization: `Bearer ${server.key}`,
      "content-type": "application/json",
      "content-length": body.length,
    },
  });
  call.end(body);
  const [reply] = (await once(call, "response")) as [IncomingMessage];
  reply.resume();
  await once(reply, "end");
  return reply.statusCode ?? 0;
}

function quantile(times: number[], part: number): number {
  return times.toSorted((a, b) => a - b)[Math.floor((times.length - 1) * part)] ?? Number.NaN;
}

function memoryMiB(pid: number): number {
  return Math.round(Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024);
}
