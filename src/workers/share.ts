import type { Config } from "../config.ts";
import { portDefaults, type PortOptions } from "../wire/port.ts";

/** The settings of one worker: limits of connections beside those of the service. */
export type Share = Config & { port: PortOptions };

/**
 * The settings of worker `number`, counted from 1, of the `workers.count` that serve: limits of the service are shared
 * out, so that all workers together keep them. Each worker can do everything, so no share is below what that needs.
 */
export function shareOut(config: Config, number: number): Share {
  const { count } = config.workers;
  if (count === 1) return { ...config, port: {} };
  const part = (whole: number, min = 1) => Math.max(min, Math.floor(whole / count));
  const { embedding, former, ingest, files, search } = config;
  const share = <P extends { concurrency: number }>(provider: P | undefined): P | undefined =>
    provider && { ...provider, concurrency: part(provider.concurrency) };
  return {
    ...config,
    requestMemoryBytes: part(config.requestMemoryBytes, config.requestBytesMax),
    ingest: {
      ...ingest,
      memoryBytes: part(ingest.memoryBytes, Math.min(INGEST_BYTES_MIN, ingest.memoryBytes)),
    },
    // The first workers take one more each, where the number cannot be divided.
    files: {
      ...files,
      workers: Math.floor(files.workers / count) + (number <= files.workers % count ? 1 : 0),
    },
    search: {
      ...search,
      waitingMax: part(search.waitingMax),
      recallShare: search.recallShare / count,
    },
    database: { ...config.database, processes: count },
    embedding: share(embedding),
    former: former && { ...former, embedding: share(former.embedding) },
    port: Object.fromEntries(SHARED_BOUNDS.map((name) => [name, part(portDefaults[name])])),
  };
}

/** The limits of the port that count all connections. */
const SHARED_BOUNDS = [
  "connectionsMax",
  "connectionsPerAddressMax",
  "streamsTotalMax",
  "streamsPerAddressMax",
  "unreadBytesMax",
] as const;

/** Memory that an NDJSON upload needs beside its rows, and a group of rows. */
const INGEST_BYTES_MIN = 16 * 1024 * 1024;
