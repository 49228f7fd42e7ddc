import { findingsOr, formatBytes, type Finding, type Subject } from "./finding.ts";
import { tableNames } from "../postgres/tables.ts";
import { withOurs } from "./relations.ts";

/** Finds invalid indexes, except those being built at this moment. */
export async function checkInvalidIndexes({ client, database }: Subject): Promise<Finding[]> {
  const { rows } = await client.query<{ name: string; table: string }>(
    `${withOurs(database)} select indexrelid::regclass::text as name, indrelid::regclass::text as table
     from pg_index join ours on ours.oid = indrelid
     where not indisvalid and not exists (
       select from pg_stat_progress_create_index as progress where progress.index_relid = indexrelid)
     order by 1`,
    [tableNames(database.tables)],
  );
  const findings = rows.map(({ name, table }): Finding => {
    const message = `The index ${name} of ${table} is invalid, left by a failed build: it slows down writes, and no query uses it.`;
    return { severity: "warning", message, remedy: `drop index concurrently ${name};` };
  });
  return findingsOr(findings, "Every index is valid.");
}

/**
 * A rebuild is suggested for an index of at least this size that is this many times as large as a new one
 * would be.
 */
const BLOAT_BYTES_MIN = 16 * 1024 * 1024;
const BLOAT_FACTOR = 2;
/** Usable bytes of an 8,192-byte page: without the page header and the special space of HNSW. */
const PAGE_BYTES = 8_160;

interface HnswIndex {
  name: string;
  bytes: number;
  /** Estimate of the last ANALYZE or VACUUM (pg_class.reltuples); -1: unknown. */
  rows: number;
  dimensions: number;
  type: string;
  m: number;
}

/** Checks vector indexes for bloat, and whether all of them together fit into shared_buffers. */
export async function checkIndexSizes({ client, database }: Subject): Promise<Finding[]> {
  const { rows } = await client.query<HnswIndex>(
    `${withOurs(database)} select index.oid::regclass::text as name, pg_relation_size(index.oid)::float8 as bytes,
       greatest(ours.reltuples, -1)::float8 as rows, atttypmod as dimensions, format_type(atttypid, null) as type,
       coalesce((select option_value::int from pg_options_to_table(index.reloptions) where option_name = 'm'), 16) as m
     from pg_index join ours on ours.oid = indrelid join pg_class as index on index.oid = indexrelid
       join pg_am on pg_am.oid = index.relam join pg_attribute on attrelid = index.oid and attnum = 1
     where amname = 'hnsw' and indisvalid order by 1`,
    [tableNames(database.tables)],
  );
  const findings = rows.flatMap((index): Finding[] => {
    const expected = expectedBytes(index);
    if (index.rows < 0 || index.bytes < BLOAT_BYTES_MIN || index.bytes < BLOAT_FACTOR * expected) return [];
    const message = `The index ${index.name} takes ${formatBytes(index.bytes)}, where its ${index.rows.toLocaleString("en")} rows need ${formatBytes(expected)}: bloat left by deleted vectors, which slows searches.`;
    return [{ severity: "warning", message, remedy: `reindex index concurrently ${index.name};` }];
  });
  const total = rows.reduce((sum, { bytes }) => sum + bytes, 0);
  return [...findings, ...(await compareToMemory({ client }, total))];
}

/**
 * Estimated size of a newly built HNSW index. Per row: an element tuple (the vector and about 84 bytes) and a
 * neighbour tuple of 6 bytes per neighbour, 2 m at the lowest level and m at each higher level, of which a
 * row has 1 / (m - 1) on average. Source: pgvector 0.8, src/hnsw.h.
 */
function expectedBytes({ rows, dimensions, type, m }: HnswIndex): number {
  const vectorBytes =
    type === "vector" ? dimensions * 4 : type === "halfvec" ? dimensions * 2 : dimensions / 8;
  const elementBytes = vectorBytes + 84 + 8 + 6 * (2 * m + m / (m - 1));
  // The element and the neighbour tuple share a page if both fit; neither is split across pages.
  return elementBytes > PAGE_BYTES ? rows * 8192 * 2 : (rows / Math.floor(PAGE_BYTES / elementBytes)) * 8192;
}

async function compareToMemory({ client }: Pick<Subject, "client">, indexBytes: number): Promise<Finding[]> {
  const { rows } = await client.query<{ bytes: number }>(
    "select pg_size_bytes(current_setting('shared_buffers'))::float8 as bytes",
  );
  const buffersBytes = rows[0]?.bytes ?? 0;
  const sizes = `The vector indexes take ${formatBytes(indexBytes)}, the buffers of the server (shared_buffers) ${formatBytes(buffersBytes)}`;
  if (indexBytes <= buffersBytes) return [{ severity: "ok", message: `${sizes}.` }];
  const remedy = `With memory to spare: alter system set shared_buffers = '${Math.ceil((indexBytes * 1.25) / 1024 ** 2)}MB'; and a restart of the server. A quarter of its memory is usual.`;
  const message = `${sizes}: searches read them from the system's cache or from disk.`;
  return [{ severity: "notice", message, remedy }];
}

/** Dead rows are reported from this number, if they are also at least this share of all rows. */
const DEAD_ROWS_MIN = 10_000;
const DEAD_SHARE = 0.2;

/** Checks that vacuum keeps up with dead rows, left by deletes and updates. */
export async function checkDeadRows({ client, database }: Subject): Promise<Finding[]> {
  const { rows } = await client.query<{ name: string; dead: number; share: number; vacuumed: Date | null }>(
    `${withOurs(database)} select relid::regclass::text as name, n_dead_tup::float8 as dead,
       n_dead_tup::float8 / (n_dead_tup + n_live_tup) as share, greatest(last_vacuum, last_autovacuum) as vacuumed
     from pg_stat_all_tables join ours on ours.oid = relid
     where n_dead_tup >= ${DEAD_ROWS_MIN} and n_dead_tup >= ${DEAD_SHARE} * (n_dead_tup + n_live_tup)
     order by n_dead_tup desc`,
    [tableNames(database.tables)],
  );
  const findings = rows.map(({ name, dead, share, vacuumed }): Finding => {
    const last = vacuumed === null ? "never vacuumed" : `last vacuumed at ${vacuumed.toISOString()}`;
    const message = `${Math.round(share * 100)} % of the rows of ${name} are dead (${dead.toLocaleString("en")}), ${last}.`;
    const remedy = `vacuum (analyze) ${name}; if few rows are removed, something holds back the xmin horizon: see the check vacuum_blockers.`;
    return { severity: "warning", message, remedy };
  });
  return findingsOr(findings, "Vacuum keeps up with deleted rows.");
}
