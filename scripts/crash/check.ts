import type pg from "pg";
import type { IngestSummary } from "../../gen/pgquiver/v1/ingest_pb.ts";
import { IngestState } from "../../gen/pgquiver/v1/ingest_pb.ts";
import { expectOutcome, type Outcome, type Plan, type PlannedRow } from "./plan.ts";

/** A loaded store: the plans of its clients, each with the summary that the client received. */
export interface Loaded {
  storeId: string;
  plans: { plan: Plan; summary: IngestSummary }[];
}

/** Differences between the stored rows and counters and the expected ones. */
export interface Difference {
  rowsLost: number;
  rowsDoubled: number;
  /** One sentence per difference, for the report. */
  problems: string[];
}

/** The default number of rejected rows that an ingest's summary lists (`limits.row_errors_default`). */
const FAULTS_LISTED = 100;

interface StoredRow {
  id: string;
  content: string;
  embedding: number[];
}

/**
 * Compares a store with the outcome that its plans must have, by SQL on the tables, not through the service.
 */
export async function compare(pool: pg.Pool, { storeId, plans }: Loaded): Promise<Difference> {
  const difference: Difference = { rowsLost: 0, rowsDoubled: 0, problems: [] };
  const stored = await readStored(pool, storeId);
  const expected: PlannedRow[] = [];
  for (const { plan, summary } of plans) {
    const outcome = expectOutcome(plan);
    expected.push(...outcome.named.values(), ...outcome.unnamed);
    difference.problems.push(...compareTotals(plan, outcome, summary), ...(await compareRow(pool, summary)));
  }
  compareRows(expected, stored, difference);
  difference.problems.push(...(await compareCounters(pool, storeId, stored)));
  return difference;
}

/** Reads a store's rows. A table on a worker of Citus is no child of the shared one. */
async function readStored(pool: pg.Pool, storeId: string): Promise<StoredRow[]> {
  const read = async (table: string) => {
    const { rows } = await pool.query<StoredRow>(
      `select id, content, embedding from ${table} where vector_store_id = $1`,
      [storeId],
    );
    return rows;
  };
  const { rows: own } = await pool.query<{ name: string }>(
    `select quote_ident(own_table) as name from vector_stores where id = $1 and own_table is not null
       and not exists (select from pg_inherits where inhrelid = to_regclass(quote_ident(own_table)))`,
    [storeId],
  );
  return [...(await read("embeddings")), ...(own[0] === undefined ? [] : await read(own[0].name))];
}

/** Compares rows as a multiset of (id if the client chose one, content, vector). */
function compareRows(expected: PlannedRow[], stored: StoredRow[], difference: Difference): void {
  const named = new Set(expected.map((row) => row.id));
  const left = new Map<string, number>();
  const add = (key: string, by: number) => left.set(key, (left.get(key) ?? 0) + by);
  for (const row of expected) add(JSON.stringify([row.id, row.content, row.vector]), 1);
  for (const row of stored)
    add(JSON.stringify([named.has(row.id) ? row.id : "", row.content, row.embedding]), -1);
  for (const [key, count] of left) {
    if (count === 0) continue;
    if (count > 0) difference.rowsLost += count;
    else difference.rowsDoubled -= count;
    difference.problems.push(`${count > 0 ? "lost" : "not expected"}: ${key}`);
  }
}

function compareTotals(plan: Plan, outcome: Outcome, summary: IngestSummary): string[] {
  const got = {
    state: summary.state,
    throughSeq: Number(summary.throughSeq),
    rowsWritten: Number(summary.rowsWritten),
    rowsSkipped: Number(summary.rowsSkipped),
    rowsRejected: Number(summary.rowsRejected),
    faults: summary.errors.map(({ seq, index }) => `${seq}:${index}`),
  };
  const { rowsWritten, rowsSkipped, rowsRejected } = outcome;
  const want = {
    state: IngestState.COMPLETED,
    throughSeq: plan.batches.length,
    rowsWritten,
    rowsSkipped,
    rowsRejected,
    faults: outcome.faults.slice(0, FAULTS_LISTED),
  };
  if (JSON.stringify(got) === JSON.stringify(want)) return [];
  return [`${plan.ingestId} reports ${JSON.stringify(got)} instead of ${JSON.stringify(want)}`];
}

/** Compares the ingest's row in the database with the summary that the client received. */
async function compareRow(pool: pg.Pool, summary: IngestSummary): Promise<string[]> {
  const { rows } = await pool.query<{ totals: string[] }>(
    `select array[state, through_seq::text, rows_written::text, rows_skipped::text, rows_rejected::text] as totals
     from pgquiver_ingests where vector_store_id = $1 and ingest_id = $2`,
    [summary.vectorStoreId, summary.ingestId],
  );
  const { throughSeq, rowsWritten, rowsSkipped, rowsRejected } = summary;
  const told = ["completed", throughSeq, rowsWritten, rowsSkipped, rowsRejected].join();
  const kept = rows.map(({ totals }) => totals.join()).join(" and ");
  return kept === told ? [] : [`${summary.ingestId}: its row says ${kept}, its client was told ${told}`];
}

/** Compares the store's counters with its rows. */
async function compareCounters(
  pool: pg.Pool,
  storeId: string,
  stored: readonly StoredRow[],
): Promise<string[]> {
  const { rows } = await pool.query<{ counters: string }>(
    `select concat_ws(' ', file_counts ->> 'completed', file_counts ->> 'total', usage_bytes) as counters
     from vector_stores where id = $1`,
    [storeId],
  );
  const bytes = stored.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0);
  const counted = `${stored.length} ${stored.length} ${bytes}`;
  if (rows[0]?.counters === counted) return [];
  return [`${storeId}: the counters say "${rows[0]?.counters}", the rows "${counted}"`];
}
