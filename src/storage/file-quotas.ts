import type { Client, Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { FILE_EXISTS } from "./files.ts";
import { exceeded } from "./quotas.ts";

/** The quotas on a project's files, each with what it counts of a file and of the files that there are. */
const COUNTED = [
  { quota: "max_files", noun: "files", of: () => 1, held: "count(*)" },
  {
    quota: "max_file_bytes",
    noun: "bytes of files",
    of: (bytes: number) => bytes,
    held: "coalesce(sum(bytes), 0)",
  },
] as const;

type Row = Record<(typeof COUNTED)[number]["quota"], number | null>;

/** Checks whether a file of so many bytes fits. Throws INSUFFICIENT_QUOTA. */
export type CheckRoom = (bytes: number) => void;

/**
 * Throws INSUFFICIENT_QUOTA when another file, even an empty one, would be beyond a project's quotas by what is stored now,
 * and returns the same check of the bytes that have arrived: so an upload that cannot fit is refused before it is
 * received. What holds is said by `checkFiles`.
 */
export async function openRoom(client: Queryable, tables: Tables, project: string): Promise<CheckRoom> {
  const quotas = await findQuotas(client, tables, project, "");
  if (quotas === undefined) return () => {};
  const held = await countFiles(client, tables, project);
  const check = (bytes: number) => requireFit(project, quotas, held, bytes);
  check(0);
  return check;
}

/**
 * Throws INSUFFICIENT_QUOTA when another file of so many bytes would be beyond a project's quotas, with the announced bytes
 * of its pending uploads counted as files. Call it in the transaction that begins an upload, before it is inserted: the
 * quota stays locked until the commit.
 */
export async function checkAnnounced(
  client: Client,
  tables: Tables,
  project: string,
  bytes: number,
): Promise<void> {
  const quotas = await findQuotas(client, tables, project, "for update");
  if (quotas === undefined) return;
  const held = await countFiles(client, tables, project);
  const result = await client.query<Row>(
    `select count(*)::float8 as max_files, coalesce(sum(bytes), 0)::float8 as max_file_bytes from ${tables.uploads}
     where project_id = $1 and status = 'pending' and expires_at > now()`,
    [project],
  );
  const [announced] = result.rows;
  const before = COUNTED.map(({ quota }) => [quota, Number(held[quota]) + Number(announced?.[quota])]);
  requireFit(project, quotas, Object.fromEntries(before) as Row, bytes);
}

/**
 * Throws INSUFFICIENT_QUOTA when a project's files are beyond its quotas. Call it in the transaction that completes an upload
 * of so many bytes, as its last statement.
 */
export async function checkFiles(
  client: Client,
  tables: Tables,
  project: string,
  bytes: number,
): Promise<void> {
  // The lock orders transactions that add at the same time, so that the later one counts what the earlier one added.
  const quotas = await findQuotas(client, tables, project, "for update");
  if (quotas === undefined) return;
  const held = await countFiles(client, tables, project);
  const before = COUNTED.map(({ quota, of }) => [quota, (held[quota] as number) - of(bytes)]);
  requireFit(project, quotas, Object.fromEntries(before) as Row, bytes);
}

function requireFit(project: string, quotas: Row, before: Row, bytes: number): void {
  for (const { quota, noun, of } of COUNTED) {
    const [max, held, added] = [quotas[quota], before[quota] as number, of(bytes)];
    if (max !== null && added > 0 && held + added > max)
      throw exceeded(project, { quota, noun }, { max, held, added });
  }
}

async function findQuotas(
  client: Queryable,
  tables: Tables,
  project: string,
  lock: "" | "for update",
): Promise<Row | undefined> {
  const result = await client.query<Row>(
    `select ${COUNTED.map(({ quota }) => `${quota}::float8`).join(", ")} from ${tables.quotas}
     where project_id = $1 and (${COUNTED.map(({ quota }) => `${quota} is not null`).join(" or ")}) ${lock}`,
    [project],
  );
  return result.rows[0];
}

async function countFiles(client: Queryable, tables: Tables, project: string): Promise<Row> {
  const result = await client.query<Row>(
    `select ${COUNTED.map(({ quota, held }) => `(${held})::float8 as ${quota}`).join(", ")}
     from ${tables.files} where project_id = $1 and ${FILE_EXISTS}`,
    [project],
  );
  return result.rows[0] as Row;
}
