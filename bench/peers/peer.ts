import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { interruption } from "../support/interruption.ts";
import type { Points } from "../support/points.ts";
import type { BenchProcess } from "../support/process.ts";

/** Number of results of every search. */
export const RESULTS = 10;

/** Requests in flight while rows are loaded by separate requests. */
export const LOADERS = 2;

/** A row to be stored, with the metadata `position`. */
export interface Row {
  id: string;
  position: number;
  content: string;
  vector: Float32Array;
}

/** A search for the ten rows nearest to a vector. */
export interface Query {
  vector: Float32Array;
  /** Only rows whose position is less; undefined: all rows. */
  below?: number | undefined;
}

/** What a compared server can do. A collection is what the server calls so, or a store, or a class. */
export interface Peer {
  /** Its name, and its version where the server tells that. */
  name: string;
  /** How the vectors of a collection are indexed and kept, in a few words. */
  settings: string;
  /** CPU time of its processes so far; of the client, nothing. */
  cpuMs: () => number;
  createCollection(collection: string): Promise<void>;
  dropCollection(collection: string): Promise<void>;
  /** Encodes the rows; the returned function sends them, and resolves when all are acknowledged. */
  prepareLoad(collection: string, rows: readonly Row[]): () => Promise<void>;
  /** Resolves when a search finds every acknowledged row by the index. */
  awaitIndex(collection: string, anyQuery: Query): Promise<void>;
  /** Sets the size of HNSW's candidate list for the following searches of the collection. */
  setEf(collection: string, ef: number): Promise<void>;
  /** Resolves to ids, nearest first. The reply has texts and metadata too. */
  search(collection: string, query: Query): Promise<string[]>;
  insert(collection: string, row: Row): Promise<void>;
  delete(collection: string, id: string): Promise<void>;
  /** Deletes by one request all rows from this position on. */
  deleteFrom(collection: string, position: number): Promise<void>;
  /** Makes a small store, tenant or collection for each of the groups of rows, in the way meant for many of them. */
  createTenants(groups: readonly (readonly Row[])[]): Promise<void>;
  /** Searches the small store with this number. */
  searchTenant(number: number, query: Query): Promise<string[]>;
}

/** The row with this number; its id is a UUID, which one of the servers demands. */
export function makeRow(points: Points, number: number): Row {
  return {
    id: `00000000-0000-4000-8000-${number.toString(16).padStart(12, "0")}`,
    position: number,
    content: `text ${number}`,
    vector: points.at(number),
  };
}

/** Splits rows into batches. */
export function cut<Item>(items: readonly Item[], size: number): Item[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, batch) =>
    items.slice(batch * size, (batch + 1) * size),
  );
}

/** Runs the tasks in their order, `LOADERS` at a time. */
export async function runAll(tasks: readonly (() => Promise<unknown>)[]): Promise<void> {
  let next = 0;
  const work = async () => {
    for (let task = tasks[next++]; task !== undefined; task = tasks[next++]) {
      interruption.throwIfAborted();
      await task();
    }
  };
  await Promise.all(Array.from({ length: LOADERS }, work));
}

/** The bytes of a vector: little-endian float32. */
export function toBytes({ buffer, byteOffset, byteLength }: Float32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** Finds ports that are free on the loopback interface at this moment, and follow each other. */
export async function findFreePorts(count: number): Promise<number[]> {
  for (;;) {
    await using stack = new AsyncDisposableStack();
    const listen = async (port: number) => {
      const server = stack.use(createServer());
      server.listen(port, "127.0.0.1");
      await once(server, "listening");
      return (server.address() as AddressInfo).port;
    };
    const ports = [await listen(0)];
    try {
      while (ports.length < count) ports.push(await listen((ports[0] as number) + ports.length));
      return ports;
    } catch (error) {
      if (!["EADDRINUSE", "ERR_SOCKET_BAD_PORT"].includes((error as NodeJS.ErrnoException).code ?? ""))
        throw error;
    }
  }
}

const START_MS = 60_000;
const POLL_MS = 100;

/** Waits until a server answers at the URL. Throws when its process has ended, or after a minute. */
export async function awaitAnswer(url: string, { exited }: BenchProcess): Promise<void> {
  let isOver = false;
  const over = () => (isOver = true);
  exited.then(over, over);
  const until = performance.now() + START_MS;
  for (;;) {
    interruption.throwIfAborted();
    const isReady = await fetch(url).then(
      (reply) => reply.ok,
      () => false,
    );
    if (isReady) return;
    if (isOver) throw new Error("The server ended while it was starting.");
    if (performance.now() > until) throw new Error(`There is no answer at ${url}.`);
    await sleep(POLL_MS);
  }
}
