import { existsSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { vector } from "@electric-sql/pglite-pgvector";
import pg from "pg";
import { messageOf } from "../../errors.ts";
import { onConnect } from "../vector-types.ts";
import { Backend } from "./backend.ts";
import { DISK_RESERVE_BYTES, FullDiskError, NEW_DATABASE_BYTES, readFreeBytes } from "./disk.ts";
import { PgliteSocket } from "./pglite-socket.ts";
import { SEARCH_SETTINGS } from "../search-settings.ts";

/** The data directory of Postgres, within the directory of the embedded database. */
const CLUSTER = "pgdata";

/** A Postgres inside this process. */
export interface Embedded {
  /** One connection: statements wait for each other. */
  pool: pg.Pool;
  /** The data directory as a tar archive, for `snapshot`. */
  dump: () => Promise<Blob>;
  close: () => Promise<void>;
}

/** Where the embedded database lives. */
export interface EmbeddedOptions {
  /** Created if it is missing; one process at a time. Undefined: in memory. */
  directory?: string | undefined;
  /** What a new database starts from, instead of an empty one; made by `dump` of the same PGlite version. */
  snapshot?: Blob | undefined;
  /** Writes are refused while the disk of the directory has less free; default `DISK_RESERVE_BYTES`. */
  diskReserveBytes?: number | undefined;
  /** How long to wait for the connection. */
  connectTimeoutMs: number;
}

/**
 * Starts PGlite (Postgres compiled to WebAssembly) with pgvector. The first start in a directory runs initdb,
 * which takes 5 to 17 s; a later one less than 1 s.
 */
export async function openEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const { directory, snapshot, diskReserveBytes = DISK_RESERVE_BYTES } = options;
  const unlock = directory === undefined ? async () => {} : await lock(directory);
  const isThere = directory !== undefined && isCreated(directory);
  const pglite = await create(directory, snapshot, diskReserveBytes).catch(async (error: unknown) => {
    await unlock();
    const isFull = directory !== undefined && readFreeBytes(directory) < diskReserveBytes;
    if (error instanceof FullDiskError) throw error;
    if (!isFull) throw isThere ? unopened(directory, error) : error;
    // What the start of Postgres throws without room differs from start to start, and is not always an Error.
    throw new FullDiskError(
      `The disk of the data directory ${directory} has ${toMiB(readFreeBytes(directory))} MiB free, too little to open its database.`,
      { cause: error },
    );
  });
  const backend = new Backend(pglite, { directory, diskReserveBytes });
  const pool = new pg.Pool({
    stream: () => new PgliteSocket(backend, SEARCH_SETTINGS),
    // Named here, so that the PG* variables of the environment have no say.
    host: "embedded",
    user: "postgres",
    database: "postgres",
    password: "",
    ssl: false,
    max: 1,
    idleTimeoutMillis: 0,
    connectionTimeoutMillis: options.connectTimeoutMs,
    onConnect,
  });
  // As in pool.ts: without listeners a broken connection would end the process.
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  return {
    pool,
    dump: () => pglite.dumpDataDir("none"),
    close: async () => {
      await pool.end();
      await backend.close();
      await unlock();
    },
  };
}

function toMiB(bytes: number): number {
  return Math.floor(bytes / 1024 / 1024);
}

async function create(
  directory: string | undefined,
  snapshot: Blob | undefined,
  diskReserveBytes: number,
): Promise<PGlite> {
  if (directory !== undefined && !isCreated(directory)) {
    const needed = diskReserveBytes + NEW_DATABASE_BYTES;
    const free = readFreeBytes(directory);
    if (free < needed) {
      throw new FullDiskError(
        `The disk of the data directory ${directory} has ${toMiB(free)} MiB free, and a new database needs ${toMiB(needed)} MiB.`,
      );
    }
  }
  return PGlite.create({
    extensions: { vector },
    ...(directory === undefined ? {} : { dataDir: join(directory, CLUSTER) }),
    ...(snapshot === undefined ? {} : { loadDataDir: snapshot }),
  });
}

/** PGlite says of damage only that WebAssembly was aborted. */
function unopened(directory: string, cause: unknown): Error {
  const message =
    `The embedded database in ${directory} cannot be opened: its files are damaged or incomplete, or another version ` +
    `of PGlite made them (${messageOf(cause).replace(/\.$/, "")}). Put a copy of the directory from before in its ` +
    "place, or move it away, and the next start makes an empty database.";
  return new Error(message, { cause });
}

/** Whether there is a database in the directory. PG_VERSION is the last file that initdb writes. */
export function isCreated(directory: string): boolean {
  return existsSync(join(directory, CLUSTER, "PG_VERSION"));
}

/** Directories this process holds: its own id in a lock file says nothing when ids repeat, as 1 does in containers. */
const held = new Set<string>();

/**
 * Keeps a second process out of the directory, which two would corrupt, by a file with the holder's process id.
 * The file of a process that is gone is taken over. Returns the function that gives the directory back.
 */
async function lock(directory: string): Promise<() => Promise<void>> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const path = lockPath(directory);
  const holder = await findHolder(directory);
  if (holder !== undefined) {
    throw new Error(
      `The data directory ${directory} is in use by process ${holder}. ` +
        `If that is not a pgquiver, remove ${path} and start again.`,
    );
  }
  await rm(path, { force: true });
  await writeFile(path, `${process.pid}\n`, { flag: "wx" });
  held.add(path);
  return async () => {
    held.delete(path);
    await rm(path, { force: true });
  };
}

/** The id of the process that has the directory open; undefined where none has. */
export async function findHolder(directory: string): Promise<number | undefined> {
  const path = lockPath(directory);
  if (held.has(path)) return process.pid;
  const holder = Number(await readFile(path, "utf8").catch(() => ""));
  return holder > 0 && holder !== process.pid && isRunning(holder) ? holder : undefined;
}

function lockPath(directory: string): string {
  return resolve(directory, "pgquiver.pid");
}

function isRunning(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
