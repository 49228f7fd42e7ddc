import { defaultPrecision, type Precision } from "../postgres/vector-index.ts";
import { findingsOr, formatBytes, ok, type Finding, type Subject } from "./finding.ts";
import { alterSystem, numberOf, readRole, readSettings } from "./settings.ts";

/**
 * Above this value the planner may prefer a sequential scan to a vector index when vectors are TOASTed (out
 * of line).
 */
const RANDOM_PAGE_COST_MAX = 2;

/** Checks the planner settings that keep vector indexes from being chosen, and JIT compilation. */
export async function checkPlanner(subject: Subject): Promise<Finding[]> {
  const settings = await readSettings(subject, ["random_page_cost", "jit"]);
  const role = await readRole(subject);
  const findings: Finding[] = [];
  const cost = numberOf(settings, "random_page_cost");
  if (cost > RANDOM_PAGE_COST_MAX) {
    const message = `random_page_cost is ${cost}, a value for spinning disks: the planner may not choose vector indexes.`;
    findings.push({ severity: "notice", message, remedy: `alter role ${role} set random_page_cost = 1.1;` });
  }
  if (settings.get("jit")?.value === "on") {
    const message = "jit is on: compiling exact searches of large stores takes longer than it saves.";
    findings.push({ severity: "notice", message, remedy: `alter role ${role} set jit = off;` });
  }
  return findingsOr(findings, "The planner is set for vector indexes.");
}

/**
 * Checks for frequent requested checkpoints, which bulk loads cause by filling max_wal_size: after a
 * checkpoint the first write to every page logs the full page again, so the loads write more WAL.
 */
export async function checkCheckpoints({ client }: Subject): Promise<Finding[]> {
  // PostgreSQL 17 moved these counters from pg_stat_bgwriter to pg_stat_checkpointer.
  const { rows: found } = await client.query<{ is17: boolean }>(
    "select to_regclass('pg_catalog.pg_stat_checkpointer') is not null as is17",
  );
  const { rows } = await client.query<{ requested: number; timed: number; size: string }>(
    `select ${found[0]?.is17 === true ? "num_requested" : "checkpoints_req"}::float8 as requested,
       ${found[0]?.is17 === true ? "num_timed" : "checkpoints_timed"}::float8 as timed,
       current_setting('max_wal_size') as size
     from ${found[0]?.is17 === true ? "pg_stat_checkpointer" : "pg_stat_bgwriter"}`,
  );
  const { requested = 0, timed = 0, size } = rows[0] ?? {};
  // The counter includes checkpoints requested by backups, by CREATE and DROP DATABASE, and by CHECKPOINT.
  const numbers = `${requested} of ${requested + timed} checkpoints were requested, by bulk loads or otherwise`;
  if (requested < 10 || requested < timed) return ok(`${numbers}.`);
  const message = `${numbers}: loads that fill max_wal_size, which is ${size}, write more than they need to.`;
  return [{ severity: "notice", message, remedy: alterSystem("max_wal_size", "'8GB'") }];
}

/**
 * Bytes of an HNSW graph element in memory besides its vector, at m = 16: element, neighbour lists, pointers.
 */
const GRAPH_ELEMENT_BYTES = 700;

/**
 * Checks that the largest store's index can be built within the memory limit, with the configured parallel
 * workers.
 */
export async function checkBuilds(subject: Subject): Promise<Finding[]> {
  const { client, database, settings } = subject;
  const findings: Finding[] = [];
  const { rows } = await client.query<{
    id: string;
    rows: number;
    dimensions: number;
    precision: Precision | null;
  }>(
    `select id, embedding_count::float8 as rows, dimensions, precision from ${database.tables.vectorStores}
     where dimensions is not null and index_policy <> 'never'
     order by embedding_count * dimensions desc limit 1`,
  );
  for (const { id, rows: count, dimensions, precision } of rows) {
    const vectorBytes = { float32: dimensions * 4, float16: dimensions * 2, binary: dimensions / 8 };
    const bytes = count * (vectorBytes[precision ?? defaultPrecision(dimensions)] + GRAPH_ELEMENT_BYTES);
    if (bytes <= settings.memoryBytes) continue;
    const message = `The index build of store ${id} needs about ${formatBytes(bytes)} of memory and may use ${formatBytes(settings.memoryBytes)}: a build beyond its limit is many times slower.`;
    const remedy = `Set INDEX_BUILD_MEMORY_BYTES=${Math.ceil(bytes * 1.1)}, if the server has the memory.`;
    findings.push({ severity: "notice", message, remedy, storeId: id });
  }
  const server = await readSettings(subject, ["max_parallel_workers", "max_worker_processes"]);
  const available = Math.min(...[...server.values()].map(({ value }) => Number(value)));
  if (available < settings.workers) {
    const message = `Index builds are configured for ${settings.workers} parallel workers, but the server allows ${available}.`;
    const remedy = `alter system set max_parallel_workers = ${settings.workers}; alter system set max_worker_processes = ${settings.workers + 8}; and a restart of the server.`;
    findings.push({ severity: "notice", message, remedy });
  }
  return findingsOr(findings, "Indexes can be built as configured.");
}
