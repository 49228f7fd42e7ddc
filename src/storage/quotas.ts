import { insufficientQuota } from "../errors.ts";
import type { Client, Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { projectOf } from "../store-id.ts";

/**
 * Quotas on rows and bytes are exact over all processes, and a project's writers do not wait for one counter (escrow): a
 * store reserves a part of its project's quota, up to which its writers compare with their store's row alone, which
 * they lock anyway. Only what goes beyond asks the project's quota, under the lock of its row. The sum of what stores
 * have reserved is never more than the quota; what they hold is counted in their rows, so deletions give back by
 * themselves.
 *
 * Lock order: the store's row, then the quota's.
 */

/** What rows add to a store; negative when shorter texts replace longer ones. */
export interface Growth {
  rows: number;
  /** UTF-8 bytes of texts. */
  bytes: number;
}

/** What a quota counts in the rows of stores. */
const COUNTED = [
  {
    quota: "max_rows",
    growth: "rows",
    held: "embedding_count",
    reserved: "rows_reserved",
    noun: "embeddings",
    /** Most that a store reserves beyond what it needs. */
    slackMax: 100_000,
  },
  {
    quota: "max_bytes",
    growth: "bytes",
    held: "usage_bytes",
    reserved: "bytes_reserved",
    noun: "bytes of text",
    slackMax: 256 * 1024 * 1024,
  },
] as const;

/**
 * Part of what is left of a quota that a store may reserve beyond what it needs: so the last of it is not in the hands
 * of stores that do not need it.
 */
const SLACK_SHARE = 1 / 8;

/**
 * SQL condition of an UPDATE of a store's row: the store has reserved enough, or its project has no quota. `rows` and
 * `bytes` are SQL expressions.
 */
export function fitsReserve(tables: Tables, growth: Record<keyof Growth, string>): string {
  const exceeded = COUNTED.map(
    (counted) =>
      `quota.${counted.quota} is not null and ${growth[counted.growth]} > 0
       and ${counted.held} + ${growth[counted.growth]} > ${counted.reserved}`,
  );
  return `not exists (select from ${tables.quotas} as quota
    where quota.project_id = ${tables.vectorStores}.project_id and (${exceeded.join(" or ")}))`;
}

/**
 * Reserves what a store needs for more rows, where `fitsReserve` says no. Call it in the transaction of the rows, just
 * before they are counted: the store and the quota stay locked until the commit. Does nothing when the project has no
 * quota. Throws INSUFFICIENT_QUOTA.
 */
export async function reserveQuota(
  client: Client,
  tables: Tables,
  storeId: string,
  growth: Growth,
): Promise<void> {
  const project = projectOf(storeId);
  const store = await findRow(
    client,
    `select ${COUNTED.map(({ held, reserved }) => `${held}::float8, ${reserved}::float8`).join(", ")}
     from ${tables.vectorStores} where id = $1 for no key update`,
    storeId,
  );
  const quotas = await findRow(
    client,
    `select ${COUNTED.map(({ quota }) => `${quota}::float8`).join(", ")} from ${tables.quotas} where project_id = $1 for update`,
    project,
  );
  if (store === undefined || quotas === undefined) return;
  const asked = COUNTED.filter(
    (counted) => growth[counted.growth] > 0 && (quotas[counted.quota] ?? null) !== null,
  );
  const needs = (counted: Counted) => (store[counted.held] as number) + growth[counted.growth];
  const freeOf = (counted: Counted, others: Row) =>
    (quotas[counted.quota] as number) - (others[counted.reserved] as number);
  let others = await sumOthers(client, tables, project, storeId);
  if (asked.some((counted) => needs(counted) > freeOf(counted, others))) {
    await takeBack(client, tables, project, storeId);
    others = await sumOthers(client, tables, project, storeId);
  }
  for (const counted of asked) {
    if (needs(counted) <= freeOf(counted, others)) continue;
    const max = quotas[counted.quota] as number;
    const held = (others[counted.held] as number) + (store[counted.held] as number);
    // What other writers have reserved at this moment, and are about to use or to give back.
    const isPassing = held + growth[counted.growth] <= max;
    throw exceeded(project, counted, { max, held, added: growth[counted.growth] }, isPassing);
  }
  const grants = asked.map((counted) => {
    const slack = Math.floor((freeOf(counted, others) - needs(counted)) * SLACK_SHARE);
    return `${counted.reserved} = ${needs(counted) + Math.min(slack, counted.slackMax)}`;
  });
  if (grants.length > 0)
    await client.query(`update ${tables.vectorStores} set ${grants.join(", ")} where id = $1`, [storeId]);
}

/**
 * Throws INSUFFICIENT_QUOTA when rows would not fit by what is stored now: before work that would be for nothing. What
 * holds is said when the rows are counted.
 */
export async function requireRoom(
  client: Queryable,
  tables: Tables,
  storeId: string,
  growth: Growth,
): Promise<void> {
  const project = projectOf(storeId);
  const found = await findRow(
    client,
    `select ${COUNTED.map(({ quota, held }) => `quota.${quota}::float8, held.${held}`).join(", ")}
     from ${tables.quotas} as quota cross join lateral (
       select ${COUNTED.map(({ held }) => `coalesce(sum(${held}), 0)::float8 as ${held}`).join(", ")}
       from ${tables.vectorStores} as store where store.project_id = quota.project_id) as held
     where quota.project_id = $1 and (quota.max_rows is not null or quota.max_bytes is not null)`,
    project,
  );
  for (const counted of found === undefined ? [] : COUNTED) {
    const { [counted.quota]: max, [counted.held]: held } = found as Row;
    const added = growth[counted.growth];
    if (max !== null && max !== undefined && added > 0 && (held as number) + added > max)
      throw exceeded(project, counted, { max, held: held as number, added });
  }
}

/**
 * Throws INSUFFICIENT_QUOTA when a project has more stores than its quota. Call it in the transaction that inserts one, as
 * its last statement.
 */
export async function checkStores(client: Client, tables: Tables, project: string): Promise<void> {
  // The lock orders transactions that add at the same time, so that the later one counts what the earlier one added.
  const quota = await findRow(
    client,
    `select max_stores::float8 as max from ${tables.quotas} where project_id = $1 and max_stores is not null for update`,
    project,
  );
  if (quota === undefined) return;
  const count = `select count(*)::float8 as held from ${tables.vectorStores} where project_id = $1`;
  const { held } = (await findRow(client, count, project)) as { held: number };
  const max = quota["max"] as number;
  const counted = { quota: "max_stores", noun: "vector stores" };
  if (held > max) throw exceeded(project, counted, { max, held: held - 1, added: 1 });
}

type Row = Record<string, number | null>;
type Counted = (typeof COUNTED)[number];

async function findRow(client: Queryable, statement: string, key: string): Promise<Row | undefined> {
  return (await client.query<Row>(statement, [key])).rows[0];
}

/** What the other stores of a project hold, and have reserved; a store that older versions write to may hold more. */
async function sumOthers(client: Client, tables: Tables, project: string, storeId: string): Promise<Row> {
  const sums = COUNTED.flatMap(({ held, reserved }) => [
    `coalesce(sum(${held}), 0)::float8 as ${held}`,
    `coalesce(sum(greatest(${held}, ${reserved})), 0)::float8 as ${reserved}`,
  ]);
  const result = await client.query<Row>(
    `select ${sums.join(", ")} from ${tables.vectorStores} where project_id = $1 and id <> $2`,
    [project, storeId],
  );
  return result.rows[0] as Row;
}

/** Takes back what the other stores have reserved and do not use. Skips stores that are being written (SKIP LOCKED). */
async function takeBack(client: Client, tables: Tables, project: string, storeId: string): Promise<void> {
  await client.query(
    `with idle as (
       select id from ${tables.vectorStores}
       where project_id = $1 and id <> $2 and (${COUNTED.map(({ held, reserved }) => `${reserved} > ${held}`).join(" or ")})
       for no key update skip locked)
     update ${tables.vectorStores} as store
     set ${COUNTED.map(({ held, reserved }) => `${reserved} = least(store.${reserved}, store.${held})`).join(", ")}
     from idle where store.id = idle.id`,
    [project, storeId],
  );
}

/** INSUFFICIENT_QUOTA: what a request adds to what a project holds is more than its quota. */
export function exceeded(
  project: string,
  { quota, noun }: { quota: string; noun: string },
  { max, held, added }: { max: number; held: number; added: number },
  isPassing = false,
): Error {
  const message = `Project '${project}' would exceed its quota '${quota}' of ${max} ${noun}: it has ${held}, and this request adds ${added}, ${held + added - max} too many.`;
  const passing = `Project '${project}' has nearly reached its quota '${quota}' of ${max} ${noun}, and other requests are using the rest at this moment: try again later.`;
  return insufficientQuota(isPassing ? passing : message, {
    limit: quota,
    subject: `project:${project}`,
    ...(isPassing && { retryAfterMs: PASSING_RETRY_MS }),
  });
}

/** How long a request is told to wait for other writers that use up, or give back, the last of a quota. */
const PASSING_RETRY_MS = 1_000;
