import type { ByteRange } from "../api/byte-range.ts";
import type { Database } from "../postgres/database.ts";
import type { Buckets } from "./buckets.ts";
import { readParts } from "./parts.ts";
import type { FileRow } from "./rows.ts";

/**
 * Reads a file's bytes, all or a range that lies within it, in pieces of some KiB, none larger than a part. Between
 * pieces no connection to the database is held. A file that is deleted meanwhile, and one that cannot be read to its
 * end, is an error.
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
