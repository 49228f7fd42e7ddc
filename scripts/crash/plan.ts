import type { Random } from "./random.ts";

/** Dimensions of every vector: few, because trials test commits, not throughput. */
export const DIMENSIONS = 8;

/** A row of a plan. */
export interface PlannedRow {
  /** Id chosen by the client; empty: the service generates one. */
  id: string;
  content: string;
  /** Small integers, which float32 and text represent exactly. All zeros: the service rejects the row. */
  vector: number[];
}

/** The rows that one client loads, and the mode in which it loads them. */
export interface Plan {
  ingestId: string;
  rpc: "IngestSession" | "Ingest";
  mode: "insert" | "upsert" | "skip_existing";
  atomicity: "batch" | "stream";
  onError: "abort_batch" | "skip_row";
  batches: PlannedRow[][];
  /** Maximum number of unacknowledged batches of a session. */
  batchesAheadMax: number;
  /** Whether a resumed upload sends durable batches again. */
  repeatsAll: boolean;
}

/**
 * The expected outcome of a plan, computed row by row: a model independent of the service's groups and
 * transactions.
 */
export interface Outcome {
  /** Expected rows with an id chosen by the client, by id. */
  named: Map<string, PlannedRow>;
  /** Expected rows whose id the service generates; their contents are unique. */
  unnamed: PlannedRow[];
  rowsWritten: number;
  rowsSkipped: number;
  rowsRejected: number;
  /** Positions of the rejected rows, as "seq:index". */
  faults: string[];
}

/** Draws the plan of one client. Ids and contents start with `prefix`. */
export function drawPlan(random: Random, prefix: string): Plan {
  const mode = random.pick(["insert", "upsert", "skip_existing"] as const);
  const atomicity = random.chance(0.3) ? "stream" : "batch";
  const onError = atomicity === "stream" || random.chance(0.5) ? "skip_row" : "abort_batch";
  const faultChance = random.chance(0.3) ? 0.002 : 0;
  const repeatChance = random.chance(0.5) ? 0.02 : 0;
  const unnamedChance = random.pick([0, 0, 0.3, 1]);
  const rowsMax = random.pick([1, 10, 60]);
  let rows = 0;
  const drawRow = (): PlannedRow => {
    const number = rows++;
    const isRepeat = number > 0 && random.chance(repeatChance);
    const isUnnamed = random.chance(unnamedChance);
    const vector = Array.from({ length: DIMENSIONS }, (_, index) => ((number * 31 + index * 7) % 97) + 1);
    return {
      id: isUnnamed ? "" : `${prefix}.${isRepeat ? random.integer(0, number - 1) : number}`,
      content: `${prefix} row ${number} ${"é".repeat(number % 5)}`,
      vector: random.chance(faultChance) ? vector.fill(0) : vector,
    };
  };
  return {
    ingestId: `${prefix}.ingest`,
    rpc: random.pick(["IngestSession", "IngestSession", "Ingest"]),
    mode,
    atomicity,
    onError,
    batches: Array.from({ length: random.integer(5, 60) }, () =>
      Array.from({ length: random.integer(1, rowsMax) }, drawRow),
    ),
    batchesAheadMax: random.pick([1, 4, 1000]),
    repeatsAll: random.chance(0.3),
  };
}

/** Computes the expected outcome of a plan. */
export function expectOutcome({ mode, onError, batches }: Plan): Outcome {
  const outcome: Outcome = {
    named: new Map(),
    unnamed: [],
    rowsWritten: 0,
    rowsSkipped: 0,
    rowsRejected: 0,
    faults: [],
  };
  for (const [batchIndex, rows] of batches.entries()) {
    const inBatch = new Set<string>();
    const isRefused = (row: PlannedRow) => {
      if (row.vector.every((value) => value === 0)) return true;
      if (mode !== "insert" || row.id === "") return false;
      const isTaken = outcome.named.has(row.id) || inBatch.has(row.id);
      inBatch.add(row.id);
      return isTaken;
    };
    const refused = rows.map(isRefused);
    const faults = refused.flatMap((isFault, index) => (isFault ? [`${batchIndex + 1}:${index}`] : []));
    outcome.faults.push(...faults);
    if (faults.length > 0 && onError === "abort_batch") {
      outcome.rowsRejected += rows.length;
      continue;
    }
    outcome.rowsRejected += faults.length;
    for (const [index, row] of rows.entries()) {
      if (refused[index] === true) continue;
      if (mode === "skip_existing" && outcome.named.has(row.id)) {
        outcome.rowsSkipped++;
        continue;
      }
      outcome.rowsWritten++;
      if (row.id === "") outcome.unnamed.push(row);
      else outcome.named.set(row.id, row);
    }
  }
  return outcome;
}
