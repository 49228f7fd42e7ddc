import { statfsSync } from "node:fs";

/**
 * The embedded database is read-only while its disk has less than this free. Postgres panics when the
 * write-ahead log (WAL) cannot grow, so writes must stop earlier: the reserve covers two WAL segments (16 MiB
 * each) and the largest write of one statement, a batch of rows with its index entries.
 */
export const DISK_RESERVE_BYTES = 64 * 1024 * 1024;

/** Disk space that a new database needs, rounded up. */
export const NEW_DATABASE_BYTES = 64 * 1024 * 1024;

/** Size of a WAL segment: with less than this free, Postgres cannot create the next segment. */
export const LOG_SEGMENT_BYTES = 16 * 1024 * 1024;

/** The disk of the data directory is full. */
export class FullDiskError extends Error {
  readonly code = "ENOSPC";
}

/** Bytes that this process, without root's reserve, may still write to the disk of a directory. */
export function readFreeBytes(directory: string): number {
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize;
}
