import { once } from "node:events";
import { availableParallelism } from "node:os";
import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { readConfig } from "../../src/config.ts";
import { forwardLines } from "../../src/workers/lines.ts";
import { shareOut } from "../../src/workers/share.ts";

const DATABASE_URL = "postgresql://localhost/vectors";
const MIB = 1024 * 1024;

const countOf = (environment: Record<string, string>) => readConfig(environment).workers;

test("WORKERS is a number or auto, and the embedded database has one process", () => {
  expect(countOf({ DATABASE_URL })).toEqual({ count: 1, isRefused: false });
  expect(countOf({ DATABASE_URL, WORKERS: "3" })).toEqual({ count: 3, isRefused: false });
  expect(countOf({ WORKERS: "3" })).toEqual({ count: 1, isRefused: true });
  expect(countOf({})).toEqual({ count: 1, isRefused: false });
  for (const WORKERS of ["0", "65", "-1", "two", "1.5"])
    expect(() => readConfig({ WORKERS })).toThrow(/WORKERS: expected auto or an integer from 1 to 64/);
});

test("auto takes the cores, as far as the pool has two connections for each", () => {
  const many = countOf({ DATABASE_URL, WORKERS: "auto", DATABASE_POOL_MAX: "1000" });
  expect(many.count).toBe(availableParallelism());
  expect(countOf({ DATABASE_URL, WORKERS: "AUTO", DATABASE_POOL_MAX: "3" }).count).toBe(1);
});

test("workers share the limits of the service", () => {
  const config = readConfig({
    DATABASE_URL,
    WORKERS: "3",
    FILE_WORKERS: "4",
    EMBEDDING__BASE_URL: "http://localhost",
    EMBEDDING__CONCURRENCY: "7",
  });
  const shares = [1, 2, 3].map((number) => shareOut(config, number));
  expect(shares.map(({ files }) => files.workers)).toEqual([2, 1, 1]);
  expect(shares[0]).toMatchObject({
    ingest: { memoryBytes: 32 * MIB },
    requestMemoryBytes: Math.floor((128 * MIB) / 3),
    search: { waitingMax: 341 },
    database: { poolMax: 10, processes: 3 },
    embedding: { concurrency: 2 },
    port: { connectionsMax: 3_333, streamsPerAddressMax: 1_666 },
  });
});

test("a share is never too small to work with", () => {
  const environment = { DATABASE_URL, WORKERS: "64", EMBEDDING__BASE_URL: "http://localhost" };
  const share = shareOut(readConfig(environment), 64);
  expect(share).toMatchObject({
    ingest: { memoryBytes: 16 * MIB },
    requestMemoryBytes: 32 * MIB,
    files: { workers: 0 },
    embedding: { concurrency: 1 },
  });
});

test("one process has what is configured, even less than a share may be", () => {
  const config = readConfig({
    DATABASE_URL,
    REQUEST_MEMORY_BYTES: String(MIB),
    INGEST_MEMORY_BYTES: String(MIB),
  });
  expect(shareOut(config, 1)).toEqual({ ...config, port: {} });
});

test("lines of workers stay whole, however they arrive", async () => {
  const [one, two] = [new PassThrough(), new PassThrough()];
  const log = new PassThrough({ highWaterMark: 4 });
  for (const from of [one, two]) forwardLines(from, log);
  const both = Promise.all([one, two].map((from) => once(from, "end")));
  one.write("1a\n1");
  two.write("2a");
  one.write("b\n");
  two.end("\n2\u00fc\n2c");
  one.end("1c\n");
  let text = "";
  log.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  await both;
  log.end();
  await once(log, "end");
  expect(text.match(/.+/g)?.toSorted()).toEqual(["1a", "1b", "1c", "2a", "2c", "2\u00fc"]);
});
