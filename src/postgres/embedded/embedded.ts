import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { vector } from "@electric-sql/pglite-pgvector";
import pg from "pg";
import { messageOf } from "../../errors.ts";
import { PreparedClient } from "../connection/prepared-client.ts";
import { onConnect } from "../connection/vector-types.ts";
import { Backend } from "./backend.ts";
import { clusterPath, createCluster, isCreated } from "./cluster.ts";
import { DISK_RESERVE_BYTES, FullDiskError, NEW_DATABASE_BYTES, readFreeBytes } from "./disk.ts";
import { PgliteSocket } from "./pglite-socket.ts";
import { copyTemplate } from "./template.ts";
import { SEARCH_SETTINGS } from "../search-settings.ts";

/** A Postgres inside this process (PGlite). */
export interface Embedded {
  /** A pool of one connection, so statements run one after the other. */
  pool: pg.Pool;
  /** Dumps the data directory as a tar archive, for the option `snapshot`. */
  dump: () => Promise<Blob>;
  close: () => Promise<void>;
}

/** Options of the embedded database. */
export interface EmbeddedOptions {
  /**
   * Directory of the database, created if missing, and locked against other processes. Undefined: in memory.
   */
  directory?: string | undefined;
  /**
   * Initial contents of a new database, made by `dump` of the same PGlite version; default: an empty
   * database.
   */
  snapshot?: Blob | undefined;
  /** Path of a template, which a new database of `directory` is copied from; default: none. */
  template?: string | undefined;
  /** Minimum free disk space for writes; default `DISK_RESERVE_BYTES`. */
  diskReserveBytes?: number | undefined;
  /** Timeout for checking the connection out of the pool, in milliseconds. */
  connectTimeoutMs: number;
}

/**
 * Starts PGlite (Postgres compiled to WebAssembly) with pgvector. The first start in a directory copies the template, within
 * 1 s, or runs initdb, which takes 3 to 17 s.
 */
export async function openEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const { directory, diskReserveBytes = DISK_RESERVE_BYTES } = options;
  const unlock = directory === undefined ? async () => {} : await lock(directory);
  const isThere = directory !== undefined && isCreated(directory);
  const pglite = await create({ ...options, diskReserveBytes }).catch(async (error: unknown) => {
    await unlock();
    const isFull = directory !== undefined && readFreeBytes(directory) < diskReserveBytes;
    if (error instanceof FullDiskError) throw error;
    if (!isFull) throw isThere ? unopened(directory, error) : error;
    // On a full disk PGlite's start throws varying errors, some of which are not instances of Error.
    throw new FullDiskError(
      `The disk of the data directory ${directory} has ${toMiB(readFreeBytes(directory))} MiB free, too little to open its database.`,
      { cause: error },
    );
  });
  const backend = new Backend(pglite, { directory, diskReserveBytes });
  const pool = new pg.Pool({
    Client: PreparedClient,
    stream: () => new PgliteSocket(backend, SEARCH_SETTINGS),
    // Set explicitly, because node-postgres otherwise reads PGHOST, PGUSER and the like from the environment.
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
  // As in pool.ts: an "error" event without a listener would be an uncaught exception.
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

/** Opens the database of a directory, which is created first if there is none, or one in memory. */
async function create({
  directory,
  snapshot,
  template,
  diskReserveBytes = DISK_RESERVE_BYTES,
}: EmbeddedOptions): Promise<PGlite> {
  const options = { extensions: { vector } };
  const contents = snapshot === undefined ? {} : { loadDataDir: snapshot };
  if (directory === undefined) return PGlite.create({ ...options, ...contents });
  if (!isCreated(directory)) {
    requireRoom(directory, diskReserveBytes);
    await createCluster(directory, async (staging) => {
      if (template !== undefined) return copyTemplate(template, staging);
      const pglite = await PGlite.create({ ...options, ...contents, dataDir: staging });
      await pglite.close();
    });
  }
  // Postgres refuses a lock file that is empty: of a process that was killed as it wrote the file. `lock` excludes others already.
  await rm(join(clusterPath(directory), "postmaster.pid"), { force: true });
  return PGlite.create({ ...options, dataDir: clusterPath(directory) });
}

/** Throws a FullDiskError when the disk has too little room for a new database. */
function requireRoom(directory: string, diskReserveBytes: number): void {
  const needed = diskReserveBytes + NEW_DATABASE_BYTES;
  const free = readFreeBytes(directory);
  if (free >= needed) return;
  throw new FullDiskError(
    `The disk of the data directory ${directory} has ${toMiB(free)} MiB free, and a new database needs ${toMiB(needed)} MiB.`,
  );
}

/** The error for damaged files, of which PGlite reports only that WebAssembly was aborted. */
function unopened(directory: string, cause: unknown): Error {
  const message =
    `The embedded database in ${directory} cannot be opened: its files are damaged or incomplete, or another version ` +
    `of PGlite created them (${messageOf(cause).replace(/\.$/, "")}). Restore the directory from a ` +
    "backup, or move it away: the next start then creates an empty database.";
  return new Error(message, { cause });
}

/**
 * Lock files that this process holds. Its own process id in a lock file does not prove that: process ids
 * repeat, such as 1 in containers.
 */
const held = new Set<string>();

/**
 * Locks the directory with a PID file, because two processes would corrupt the database. A stale lock, whose
 * process no longer runs, is taken over. Returns a function that releases the lock. Throws when another
 * process holds the lock.
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

/** The id of the process that holds the directory's lock; undefined when the directory is not locked. */
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
