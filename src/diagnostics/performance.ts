import { defaultPrecision, type Precision } from "../postgres/vector-index.ts";
import { findingsOr, formatBytes, ok, type Finding, type Subject } from "./finding.ts";
import { alterSystem, numberOf, readRole, readSettings } from "./settings.ts";

/** Above it the planner takes a vector index for dearer than reading a table whose vectors are stored out of line. */
const RANDOM_PAGE_COST_MAX = 2;

/** Whether the planner will choose vector indexes, and not compile statements that are run once. */
export async function checkPlanner(subject: Subject): Promise<Finding[]> {
  const settings = await readSettings(subject, ["random_page_cost", "jit"]);
  const role = await readRole(subject);
  const findings: Finding[] = [];
  const cost = numberOf(settings, "random_page_cost");
  if (cost > RANDOM_PAGE_COST_MAX) {
    const message = `random_page_cost is ${cost}, made for turning disks: the planner may pass over vector indexes.`;
    findings.push({ severity: "notice", message, remedy: `alter role ${role} set random_page_cost = 1.1;` });
  }
  if (settings.get("jit")?.value === "on") {
    const message =
      "jit is on: it compiles exact searches of large stores, which takes longer than it saves.";
    findings.push({ severity: "notice", message, remedy: `alter role ${role} set jit = off;` });
  }
  return findingsOr(findings, "The planner is set for vector indexes.");
}

/** Whether checkpoints are requested, as bulk loads do, each of which makes the following writes dearer. */
export async function checkCheckpoints({ client }: Subject): Promise<Finding[]> {
  // PostgreSQL 17 moved the numbers.
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
  // Those of backups, of CREATE and DROP DATABASE, and by hand are counted as well.
  const numbers = `${requested} of ${requested + timed} checkpoints were requested, by bulk loads or otherwise`;
  if (requested < 10 || requested < timed) return ok(`${numbers}.`);
  const message = `${numbers}: loads that fill max_wal_size, which is ${size}, write more than they need to.`;
  return [{ severity: "notice", message, remedy: alterSystem("max_wal_size", "'8GB'") }];
}

/** What an element of an HNSW graph takes in memory besides its vector, with m = 16: its row, lists and pointers. */
const GRAPH_ELEMENT_BYTES = 700;

/** Whether the largest store's index can be built in memory, and by as many processes as configured. */
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
    const message = `The index of store ${id} needs some ${formatBytes(bytes)} to be built and may take ${formatBytes(settings.memoryBytes)}: beyond that a build is many times slower.`;
    const remedy = `Set INDEX_BUILD_MEMORY_BYTES=${Math.ceil(bytes * 1.1)}, if the server has the memory.`;
    findings.push({ severity: "notice", message, remedy, storeId: id });
  }
  const server = await readSettings(subject, ["max_parallel_workers", "max_worker_processes"]);
  const available = Math.min(...[...server.values()].map(({ value }) => Number(value)));
  if (available < settings.workers) {
    const message = `Indexes are to be built by ${settings.workers} parallel workers, and the server has ${available}.`;
    const remedy = `alter system set max_parallel_workers = ${settings.workers}; alter system set max_worker_processes = ${settings.workers + 8}; and a restart of the server.`;
    findings.push({ severity: "notice", message, remedy });
  }
  return findingsOr(findings, "Indexes can be built as configured.");
}
