import { deadlineExceeded } from "../errors.ts";
import type { Client, Database } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";
import { checkFiles } from "../storage/file-quotas.ts";
import type { Buckets } from "./buckets.ts";
import { removeBytes } from "./leftovers.ts";
import { cutParts, PART_BYTES } from "./parts.ts";
import { FILE_COLUMNS, type FileRow } from "./rows.ts";

/** A file's metadata, given by the caller. */
export interface FileDescription {
  filename: string;
  purpose: string;
  /** Seconds from `createdAt` to the file's expiry; null: the file never expires. */
  expiresAfterSeconds: number | null;
}

/** An upload: the new file's id, and where its bytes and metadata come from. */
export interface Upload {
  id: string;
  createdAt: Date;
  project: string;
  content: AsyncIterable<Uint8Array>;
  /** Returns the metadata; called after the content has been read to its end. An error fails the upload. */
  describe: () => FileDescription;
  /** The upload in parts that this is a part of: a part is never `ready`, and counts in no quota. */
  partOf?: string;
  /** Called in the transaction that ends the upload, as its last step but the quota's. An error fails the upload. */
  settle?: (client: Client) => Promise<void>;
}

/** Heartbeat interval of an upload to a bucket, whose parts do not update the file's row. */
const SIGN_OF_LIFE_MS = 60_000;

/**
 * Stores a file in the bucket, or in the database when no bucket is configured. No transaction stays open at
 * the pace of a slow client: a file of several parts is written with one transaction per part, under a row in
 * state `uploading`, which readers ignore; the last statement makes the row `ready`. When the content or
 * `describe` throws, everything is removed; after a crash, `removeLeftovers` does so.
 */
export async function storeFile(
  database: Database,
  buckets: Buckets,
  upload: Upload,
  signal: AbortSignal,
): Promise<FileRow> {
  const objectUrl = buckets.placeObject(upload.id);
  if (objectUrl === null) return storeParts(database, buckets, upload);
  return orNothing(database, buckets, upload.id, async () => {
    await beginUpload(database, upload, objectUrl);
    const counted = { bytes: 0 };
    await buckets.write(objectUrl, withSignsOfLife(database, upload, counted), signal);
    return completeUpload(database, upload, counted.bytes);
  });
}

async function storeParts(database: Database, buckets: Buckets, upload: Upload): Promise<FileRow> {
  const parts = cutParts(upload.content);
  const first = await parts.next();
  const second = first.done === true ? first : await parts.next();
  if (second.done === true) return insertSmall(database, upload, first.value ?? Buffer.alloc(0));
  return orNothing(database, buckets, upload.id, async () => {
    await beginUpload(database, upload, null);
    await writePart(database, upload.id, 0, first.value as Buffer);
    await writePart(database, upload.id, 1, second.value);
    let bytes = (first.value as Buffer).length + second.value.length;
    let part = 2;
    for await (const data of parts) {
      await writePart(database, upload.id, part++, data);
      bytes += data.length;
    }
    return completeUpload(database, upload, bytes);
  });
}

/** Runs the steps of an upload; when a step throws, removes what the steps have written and rethrows. */
async function orNothing(
  database: Database,
  buckets: Buckets,
  id: string,
  steps: () => Promise<FileRow>,
): Promise<FileRow> {
  try {
    return await steps();
  } catch (error) {
    // The first error is the one to report; if the removal fails too, `removeLeftovers` retries.
    await giveUp(database, buckets, id).catch(() => {});
    throw error;
  }
}

async function giveUp(database: Database, buckets: Buckets, id: string): Promise<void> {
  const { pool, tables } = database;
  const result = await transaction(pool, (client) =>
    client.query<Pick<FileRow, "id" | "object_url">>(
      `update ${tables.files} set state = 'deleted', updated_at = now() where id = $1 and state <> 'ready' returning id, object_url`,
      [id],
    ),
  );
  const [leftover] = result.rows;
  if (leftover !== undefined) await removeBytes(database, buckets, leftover);
}

/** Inserts a file of at most one part with a single statement. */
async function insertSmall({ pool, tables }: Database, upload: Upload, data: Buffer): Promise<FileRow> {
  const { filename, purpose, expiresAfterSeconds } = upload.describe();
  return transaction(pool, async (client) => {
    const result = await client.query<FileRow>(
      `with part as (
       insert into ${tables.fileParts} (file_id, part, data)
       select $1::text, 0, $6::bytea where octet_length($6::bytea) > 0)
     insert into ${tables.files} (id, state, filename, purpose, bytes, created_at, expires_at, project_id, upload_id)
     values ($1::text, $8, $2, $3, octet_length($6::bytea), $4::timestamptz, $4::timestamptz + $5::int * interval '1 second', $7, $9)
     returning ${FILE_COLUMNS}`,
      [
        upload.id,
        filename,
        purpose,
        upload.createdAt,
        expiresAfterSeconds,
        data,
        upload.project,
        stateOf(upload),
        upload.partOf ?? null,
      ],
    );
    await settle(client, tables, upload, data.length);
    return result.rows[0] as FileRow;
  });
}

/**
 * Stores a file whose bytes are those of parts in the database, one after the other, without copying them: the rows of the
 * bytes get the file's id and a number. Every part but the last must have a multiple of PART_BYTES bytes.
 */
export async function adoptParts(
  { pool, tables }: Database,
  upload: Omit<Upload, "content">,
  parts: readonly { id: string; bytes: string }[],
): Promise<FileRow> {
  const { filename, purpose, expiresAfterSeconds } = upload.describe();
  const counts = parts.map((part) => Math.ceil(Number(part.bytes) / PART_BYTES));
  let next = 0;
  const numbers = counts.map((count) => (next += count) - count);
  const bytes = parts.reduce((sum, part) => sum + Number(part.bytes), 0);
  return transaction(pool, async (client) => {
    const result = await client.query<FileRow>(
      `insert into ${tables.files} (id, state, filename, purpose, bytes, created_at, expires_at, project_id)
       values ($1::text, 'ready', $2, $3, $4, $5::timestamptz, $5::timestamptz + $6::int * interval '1 second', $7)
       returning ${FILE_COLUMNS}`,
      [upload.id, filename, purpose, bytes, upload.createdAt, expiresAfterSeconds, upload.project],
    );
    const moved = await client.query(
      `update ${tables.fileParts} as piece set file_id = $1, part = piece.part + adopted.number
       from unnest($2::text[], $3::int[]) as adopted (id, number) where piece.file_id = adopted.id`,
      [upload.id, parts.map(({ id }) => id), numbers],
    );
    if (moved.rowCount !== next) throw givenUp();
    await settle(client, tables, upload, bytes);
    return result.rows[0] as FileRow;
  });
}

async function beginUpload(
  { pool, tables }: Database,
  { id, createdAt, project, partOf }: Upload,
  objectUrl: string | null,
): Promise<void> {
  await transaction(pool, (client) =>
    client.query(
      `insert into ${tables.files} (id, state, created_at, object_url, project_id, upload_id) values ($1, 'uploading', $2, $3, $4, $5)`,
      [id, createdAt, objectUrl, project, partOf ?? null],
    ),
  );
}

async function writePart({ pool, tables }: Database, id: string, part: number, data: Buffer): Promise<void> {
  const result = await transaction(pool, (client) =>
    client.query({
      name: "write_part",
      text: `with upload as (
        update ${tables.files} set updated_at = now() where id = $1 and state = 'uploading' returning id)
      insert into ${tables.fileParts} (file_id, part, data) select id, $2::int, $3::bytea from upload`,
      values: [id, part, data],
    }),
  );
  if (result.rowCount !== 1) throw givenUp();
}

async function completeUpload({ pool, tables }: Database, upload: Upload, bytes: number): Promise<FileRow> {
  const { filename, purpose, expiresAfterSeconds } = upload.describe();
  return transaction(pool, async (client) => {
    const result = await client.query<FileRow>(
      `update ${tables.files} set state = $6, filename = $2, purpose = $3, bytes = $4, updated_at = now(),
       expires_at = created_at + $5::int * interval '1 second'
     where id = $1 and state = 'uploading' returning ${FILE_COLUMNS}`,
      [upload.id, filename, purpose, bytes, expiresAfterSeconds, stateOf(upload)],
    );
    const [file] = result.rows;
    if (file === undefined) throw givenUp();
    await settle(client, tables, upload, bytes);
    return file;
  });
}

function stateOf({ partOf }: Upload): "ready" | "uploading" {
  return partOf === undefined ? "ready" : "uploading";
}

async function settle(
  client: Client,
  tables: Tables,
  upload: Omit<Upload, "content">,
  bytes: number,
): Promise<void> {
  await upload.settle?.(client);
  if (upload.partOf === undefined) await checkFiles(client, tables, upload.project, bytes);
}

/** Passes the content on, counts its bytes, and updates `updated_at` of the file's row as a heartbeat. */
async function* withSignsOfLife(
  { pool, tables }: Database,
  { id, content }: Upload,
  counted: { bytes: number },
): AsyncGenerator<Uint8Array> {
  let saidAtMs = performance.now();
  for await (const chunk of content) {
    counted.bytes += chunk.length;
    yield chunk;
    if (performance.now() - saidAtMs < SIGN_OF_LIFE_MS) continue;
    saidAtMs = performance.now();
    await transaction(pool, (client) =>
      client.query(`update ${tables.files} set updated_at = now() where id = $1`, [id]),
    );
  }
}

function givenUp() {
  return deadlineExceeded("The upload made no progress for hours and was removed.");
}
