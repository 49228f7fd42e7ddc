import type { ByteRange } from "../api/byte-range.ts";
import type { Database } from "../postgres/database.ts";
import type { Buckets } from "./buckets.ts";
import { readParts } from "./parts.ts";
import type { FileRow } from "./rows.ts";

/**
 * Reads a file's bytes, all or a range within the file, in pieces of at most PART_BYTES. No database
 * connection is held between pieces. Throws NOT_FOUND when a file in the database is deleted during the read,
 * and UNAVAILABLE when an object in a bucket cannot be read to its end.
 */
export async function* openFile(
  database: Database,
  buckets: Buckets,
  file: Pick<FileRow, "id" | "bytes" | "object_url">,
  range: ByteRange | undefined,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { offset, length } = range ?? { offset: 0, length: Number(file.bytes) };
  if (length === 0) return;
  if (file.object_url === null) yield* readParts(database, file.id, { offset, length }, signal);
  else yield* buckets.read(file.object_url, { offset, length }, signal);
}
