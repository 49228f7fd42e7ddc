import pg from "pg";
import type { AuditEntry } from "../api/audit.ts";
import type { Queryable } from "../postgres/database.ts";
import { composePage, type KeysetPage } from "../postgres/keyset.ts";
import type { Tables } from "../postgres/tables.ts";

/** A row of the audit log. */
export interface AuditRow {
  id: string;
  created_at: Date;
  project_id: string;
  event: string;
  actor_id: string | null;
  resource_id: string | null;
  data: Record<string, unknown>;
  outcome: string;
  count: number;
  address: string;
  forwarded_for: string | null;
  user_agent: string | null;
  request_id: string;
  rpc: string;
  protocol: string;
}

const COLUMNS = `id, created_at, project_id, event, actor_id, resource_id, data, outcome, count, address, forwarded_for,
  user_agent, request_id, rpc, protocol`;

/** Inserts entries; those that are there already are left. */
export async function insertEntries(
  client: Queryable,
  tables: Tables,
  entries: readonly AuditEntry[],
): Promise<void> {
  await client.query(insertion(tables, "$1"), [toArray(entries.map(toRow))]);
}

/** The statement that inserts entries, given as `toRow` makes them, with their values as literals. */
export function insertionOf(tables: Tables, rows: readonly string[]): string {
  return insertion(tables, pg.escapeLiteral(toArray(rows)));
}

function toArray(rows: readonly string[]): string {
  return `[${rows.join(",")}]`;
}

function insertion({ auditLog }: Tables, json: string): string {
  return `insert into ${auditLog} (${COLUMNS}) select ${COLUMNS} from jsonb_to_recordset(${json}::jsonb) as entry (
    id text, created_at timestamptz, project_id text, event text, actor_id text, resource_id text, data jsonb,
    outcome text, count int, address text, forwarded_for text, user_agent text, request_id text, rpc text,
    protocol text) on conflict (id) do nothing`;
}

/** An entry as JSON of its columns. */
export function toRow(entry: AuditEntry): string {
  const row: Omit<AuditRow, "created_at"> & { created_at: string } = {
    id: entry.id,
    created_at: entry.at.toISOString(),
    project_id: entry.projectId,
    event: entry.event,
    actor_id: entry.actorId,
    resource_id: entry.resourceId,
    data: entry.data,
    outcome: entry.outcome,
    count: entry.count,
    address: entry.address,
    forwarded_for: entry.forwardedFor,
    user_agent: entry.userAgent,
    request_id: entry.requestId,
    rpc: entry.rpc,
    protocol: entry.protocol,
  };
  return JSON.stringify(row);
}

/** Which entries to list; undefined: no condition. */
export interface AuditFilter {
  /** The first second, and the first one after the last, in seconds since 1970. */
  from: number | undefined;
  until: number | undefined;
  projectIds: readonly string[] | undefined;
  events: readonly string[] | undefined;
  actorIds: readonly string[] | undefined;
  resourceIds: readonly string[] | undefined;
}

/** Reads a page of the audit log. */
export async function listEntries(
  client: Queryable,
  tables: Tables,
  page: KeysetPage,
  filter: AuditFilter,
): Promise<AuditRow[]> {
  const params: unknown[] = [];
  const { conditions, ending } = composePage(page, "id", params);
  if (filter.from !== undefined) conditions.push(`created_at >= to_timestamp($${params.push(filter.from)})`);
  if (filter.until !== undefined) conditions.push(`created_at < to_timestamp($${params.push(filter.until)})`);
  const lists = {
    project_id: filter.projectIds,
    event: filter.events,
    actor_id: filter.actorIds,
    resource_id: filter.resourceIds,
  };
  for (const [column, values] of Object.entries(lists))
    if (values !== undefined) conditions.push(`${column} = any($${params.push(values)}::text[])`);
  const where = conditions.length === 0 ? "" : `where ${conditions.join(" and ")}`;
  const result = await client.query<AuditRow>(
    `select ${COLUMNS} from ${tables.auditLog} ${where} ${ending}`,
    params,
  );
  return result.rows;
}

/** Deletes at most `rowsMax` entries older than `days`, inside a transaction. Returns how many. */
export async function deleteOldEntries(
  client: Queryable,
  tables: Tables,
  days: number,
  rowsMax: number,
): Promise<number> {
  await client.query("set local pgquiver.audit_retention = on");
  const result = await client.query(
    `delete from ${tables.auditLog} where id in (
       select id from ${tables.auditLog} where created_at < now() - $1 * interval '1 day'
       order by created_at limit $2)`,
    [days, rowsMax],
  );
  return result.rowCount ?? 0;
}
