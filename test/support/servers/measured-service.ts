import { openAsBlob } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inject, onTestFinished } from "vitest";
import { startService } from "../../../scripts/crash/service.ts";
import { openEmbedded } from "../../../src/postgres/embedded/embedded.ts";
import { openTestDatabase } from "../databases/database.ts";
import { jsonClient } from "../clients/json.ts";
import { TEST_LIMITS } from "../databases/template.ts";

/** Starts the service with its default settings as a process, on a database of its own, and watches its memory. */
export async function serveMeasured() {
  const template = inject("template");
  let environment: Record<string, string>;
  let url: string | undefined;
  if (template.kind === "postgres") {
    const database = await openTestDatabase();
    onTestFinished(() => database.close());
    url = String(database.url);
    environment = { DATABASE_URL: url };
  } else {
    const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
    onTestFinished(() => rm(directory, { recursive: true }));
    const snapshot = await openAsBlob(template.migrated);
    await (await openEmbedded({ directory, snapshot, ...TEST_LIMITS })).close();
    environment = { DATA_DIRECTORY: directory };
  }
  const service = await startService(environment);
  onTestFinished(() => service.end("SIGKILL"));
  const { json } = await jsonClient(`http://${service.address}`)("POST", "/v1/vector_stores");
  const idle = await memoryOf(service.process.pid);
  // The most it has had begins anew (proc(5), clear_refs): its start, with the embedded database in it, takes more.
  await writeFile(`/proc/${service.process.pid}/clear_refs`, "5");
  return {
    ...service,
    databaseUrl: String(url),
    storeId: String(json["id"]),
    /** CPU time in ms that it has used: unlike a latency, the same however busy the machine is. */
    cpuMs: async () => cpuMsOf(service.process.pid),
    /** The most memory it has had since the start, in bytes. */
    peak: async () => (await memoryOf(service.process.pid)).peakBytes,
    /** Bytes by which its memory has ever exceeded what it was at the start. */
    growth: async () => (await memoryOf(service.process.pid)).peakBytes - idle.bytes,
  };
}

/** CPU time, in the 10 ms in which Linux counts it (proc(5), stat: utime and stime). */
async function cpuMsOf(pid: number | undefined): Promise<number> {
  const [, fields = ""] = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ");
  const [userTicks, systemTicks] = fields.split(" ").slice(11, 13).map(Number) as [number, number];
  return (userTicks + systemTicks) * 10;
}

/** Resident memory, now and at most, as Linux counts it. */
async function memoryOf(pid: number | undefined): Promise<{ bytes: number; peakBytes: number }> {
  const text = await readFile(`/proc/${pid}/status`, "utf8");
  const read = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+) kB`, "m").exec(text)?.[1]) * 1024;
  return { bytes: read("VmRSS"), peakBytes: read("VmHWM") };
}

/**
 * Calls the service again and again, as somebody who does no harm would, until the end of the test or `stop`. Returns
 * the longest time in ms that an answer took.
 */
export function watchLatency(address: string): { stop: () => Promise<number> } {
  let longestMs = 0;
  let isOver = false;
  const calls = (async () => {
    while (!isOver) {
      const startedAt = performance.now();
      const reply = await fetch(`http://${address}/v1/vector_stores?limit=1`);
      await reply.text();
      if (!reply.ok) throw new Error(`the innocent caller got ${reply.status}`);
      longestMs = Math.max(longestMs, performance.now() - startedAt);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return longestMs;
  })();
  const stop = () => {
    isOver = true;
    return calls;
  };
  // A test that has failed ends the service first.
  calls.catch(() => {});
  onTestFinished(() => void stop());
  return { stop };
}
