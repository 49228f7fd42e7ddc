import { statfsSync } from "node:fs";

/**
 * The embedded database takes no writes while its disk has less than this free. Postgres cannot go on when its
 * write-ahead log finds no room, so writes have to end before: the reserve holds two segments of the log (16 MiB each) and
 * what one statement writes at most, a batch of rows with its indexes.
 */
export const DISK_RESERVE_BYTES = 64 * 1024 * 1024;

/** What the files of a new database take, with some room. */
export const NEW_DATABASE_BYTES = 64 * 1024 * 1024;

/** With less than this free, the write-ahead log cannot get its next segment. */
export const LOG_SEGMENT_BYTES = 16 * 1024 * 1024;

/** No room on the disk of the data directory. */
export class FullDiskError extends Error {
  readonly code = "ENOSPC";
}

/** Bytes that this process may still write to the disk of a directory. */
export function readFreeBytes(directory: string): number {
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize;
}
