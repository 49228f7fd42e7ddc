import type { Limits } from "../api/rates/limits.ts";
import type { Queryable } from "../postgres/database.ts";
import { composePage, type KeysetPage, type Position } from "../postgres/keyset.ts";
import type { Tables } from "../postgres/tables.ts";

/** A row of the table of keys, without the key's digest. */
export interface KeyRow {
  id: string;
  project_id: string;
  name: string;
  redacted: string;
  scopes: string[];
  store_ids: string[] | null;
  /** Whose holders have these rights; null: there is a key. */
  certificate_subject: string | null;
  created_at: Date;
  expires_at: Date | null;
  last_used_at: Date | null;
  limits: Limits | null;
}

/** The values of a key to be inserted. */
export interface NewKeyRow {
  id: string;
  createdAt: Date;
  projectId: string;
  name: string;
  digest: Buffer;
  redacted: string;
  scopes: readonly string[];
  storeIds: readonly string[] | null;
  expiresInSeconds: number | null;
  certificateSubject?: string | null;
  limits?: Limits | null;
}

const COLUMNS =
  "id, project_id, name, redacted, scopes, store_ids, certificate_subject, created_at, expires_at, last_used_at, limits";

/** SQL condition: the key is one of the project's. Revoked keys do not exist for callers. */
const OF_PROJECT = "project_id = $1 and revoked_at is null";

/** Inserts a key and returns its row; undefined when its digest is taken, as only that of a certificate can be. */
export async function insertKey(
  client: Queryable,
  tables: Tables,
  key: NewKeyRow,
): Promise<KeyRow | undefined> {
  const result = await client.query<KeyRow>(
    `insert into ${tables.apiKeys}
       (id, project_id, name, digest, redacted, scopes, store_ids, created_at, expires_at, certificate_subject, limits)
     values ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9::bigint * interval '1 second', $10, $11::jsonb)
     on conflict (digest) do nothing returning ${COLUMNS}`,
    [
      key.id,
      key.projectId,
      key.name,
      key.digest,
      key.redacted,
      key.scopes,
      key.storeIds,
      key.createdAt,
      key.expiresInSeconds,
      key.certificateSubject ?? null,
      toJson(key.limits ?? null),
    ],
  );
  return result.rows[0];
}

/** Gives revoked keys with a digest another one, so that the certificate can be given rights again. */
export async function freeDigest(client: Queryable, tables: Tables, digest: Buffer): Promise<void> {
  await client.query(
    `update ${tables.apiKeys} set digest = sha256(digest || convert_to(id, 'UTF8'))
     where digest = $1 and revoked_at is not null`,
    [digest],
  );
}

/** Reads a key and locks its row; undefined when the project has none with this id. */
export async function lockKey(
  client: Queryable,
  tables: Tables,
  projectId: string,
  id: string,
): Promise<KeyRow | undefined> {
  const result = await client.query<KeyRow>(
    `select ${COLUMNS} from ${tables.apiKeys} where ${OF_PROJECT} and id = $2 for update`,
    [projectId, id],
  );
  return result.rows[0];
}

/** Changes a locked key and returns its row. `expiresInSeconds`: from now, null: never, undefined: as it was. */
export async function updateKey(
  client: Queryable,
  tables: Tables,
  id: string,
  key: Pick<NewKeyRow, "name" | "scopes" | "storeIds" | "limits"> & {
    expiresInSeconds: number | null | undefined;
  },
): Promise<KeyRow> {
  const { name, scopes, storeIds, expiresInSeconds, limits = null } = key;
  const result = await client.query<KeyRow>(
    `update ${tables.apiKeys} set name = $2, scopes = $3, store_ids = $4, limits = $7::jsonb,
       expires_at = case when $5 then now() + $6::bigint * interval '1 second' else expires_at end
     where id = $1 returning ${COLUMNS}`,
    [id, name, scopes, storeIds, expiresInSeconds !== undefined, expiresInSeconds ?? null, toJson(limits)],
  );
  return result.rows[0] as KeyRow;
}

/** Reads a key; undefined when the project has none with this id. */
export async function findKey(
  client: Queryable,
  tables: Tables,
  projectId: string,
  id: string,
): Promise<KeyRow | undefined> {
  const result = await client.query<KeyRow>(
    `select ${COLUMNS} from ${tables.apiKeys} where ${OF_PROJECT} and id = $2`,
    [projectId, id],
  );
  return result.rows[0];
}

/** Reads a key's list position; undefined when the project never had one with this id. */
export async function findKeyPosition(
  client: Queryable,
  tables: Tables,
  projectId: string,
  id: string,
): Promise<Position | undefined> {
  const result = await client.query<Position>(
    `select created_at::text as created_at, id from ${tables.apiKeys} where project_id = $1 and id = $2`,
    [projectId, id],
  );
  return result.rows[0];
}

/** Reads a page of a project's keys. */
export async function listKeys(
  client: Queryable,
  tables: Tables,
  projectId: string,
  page: KeysetPage,
): Promise<KeyRow[]> {
  const params: unknown[] = [projectId];
  const { conditions, ending } = composePage(page, "id", params);
  const result = await client.query<KeyRow>(
    `select ${COLUMNS} from ${tables.apiKeys} where ${[OF_PROJECT, ...conditions].join(" and ")} ${ending}`,
    params,
  );
  return result.rows;
}

/** Revokes a key; false when the project has none with this id. */
export async function revokeKey(
  client: Queryable,
  tables: Tables,
  projectId: string,
  id: string,
): Promise<boolean> {
  const result = await client.query(
    `update ${tables.apiKeys} set revoked_at = now() where ${OF_PROJECT} and id = $2`,
    [projectId, id],
  );
  return result.rowCount === 1;
}

/** Whether a key was ever made, revoked or not: from then on calls need one. */
export async function hasKeys(client: Queryable, tables: Tables): Promise<boolean> {
  const result = await client.query<{ found: boolean }>(
    `select exists (select from ${tables.apiKeys}) as found`,
  );
  return result.rows[0]?.found === true;
}

/** A key that may be used. */
export interface LiveKey {
  /** SHA-256 in base64url. */
  digest: string;
  id: string;
  project_id: string;
  scopes: string[];
  store_ids: string[] | null;
  limits: Limits | null;
  /** Milliseconds until it expires, by the clock of the database; null: never. */
  expires_in_ms: number | null;
}

/** Reads those of the keys with these digests that exist, are neither revoked nor expired, and not of an archived project. */
export async function findLiveKeys(
  client: Queryable,
  tables: Tables,
  digests: readonly string[],
): Promise<LiveKey[]> {
  const result = await client.query<Omit<LiveKey, "digest"> & { digest: Buffer }>({
    name: "find_live_keys",
    text: `select key.digest, key.id, key.project_id, key.scopes, key.store_ids, key.limits,
       (extract(epoch from key.expires_at - now()) * 1000)::float8 as expires_in_ms
     from ${tables.apiKeys} as key join ${tables.projects} as project on project.id = key.project_id
     where key.digest = any($1::bytea[]) and key.revoked_at is null and coalesce(key.expires_at > now(), true)
       and project.archived_at is null`,
    values: [digests.map((digest) => Buffer.from(digest, "base64url"))],
  });
  return result.rows.map((row) => ({ ...row, digest: row.digest.toString("base64url") }));
}

/** Notes when keys were last used. */
export async function noteUses(
  client: Queryable,
  tables: Tables,
  uses: readonly { id: string; at: Date }[],
): Promise<void> {
  await client.query(
    `update ${tables.apiKeys} as key set last_used_at = greatest(key.last_used_at, used.at)
     from unnest($1::text[], $2::timestamptz[]) as used (id, at) where key.id = used.id`,
    [uses.map(({ id }) => id), uses.map(({ at }) => at)],
  );
}

/** Limits without any in them are none. */
function toJson(limits: Limits | null): string | null {
  return limits === null || Object.keys(limits).length === 0 ? null : JSON.stringify(limits);
}
