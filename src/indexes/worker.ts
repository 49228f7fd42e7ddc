import { setTimeout as delay } from "node:timers/promises";
import type { Database } from "../postgres/database.ts";
import { isCancelled, isInsufficientPrivilege, isLockTimeout } from "../postgres/errors.ts";
import { openSession, runExclusively } from "../postgres/exclusive.ts";
import { placeTables } from "../postgres/tables.ts";
import { cancellable, transaction } from "../postgres/transaction.ts";
import { traced } from "../tracing.ts";
import { indexAttributes } from "./attributes.ts";
import {
  buildIndex,
  designIndex,
  MixedDimensions,
  removeIndex,
  replaceIndex,
  type BuildOptions,
} from "./build.ts";
import type { WorkContext } from "./context.ts";
import { cleanShared, copyStoreRows, createTable, switchTable, withdraw } from "./own-table.ts";
import { findPlan, updatePlan, updateStoreIndex, type Plan } from "./plan.ts";
import { ShardSplitter } from "./split.ts";
import { nextStep, type Step, type StepOptions } from "./step.ts";
import { InsufficientPrivilege } from "./table.ts";

/** Options of the index worker. */
export interface IndexOptions extends StepOptions, BuildOptions {
  /** Text search configuration of stores that name none. */
  language: string;
  /**
   * Polling interval in milliseconds: for due work, and for the worker's lock while another process holds it.
   */
  pollMs: number;
  /** Size from which a shard on a Citus cluster is split; 0: none is. */
  shardBytes: number;
  /** Called when a step begins, and with its duration in milliseconds when it is done. */
  onStep?: (step: Step, storeId: string | undefined, durationMs?: number) => void;
}

/** The background worker that moves stores to their own tables and builds their indexes. */
export interface IndexWorker {
  /** Makes the worker poll at once; no effect in a process that does not hold the worker's lock. */
  wake: () => void;
  /** Aborts the worker and waits until it has ended. The process that gets the lock next resumes the step. */
  stop: () => Promise<void>;
}

/** Postponement of a store, in polling intervals, after a lock timeout or during a bulk ingest. */
const WAIT_POLLS = 2;
/**
 * Exponential backoff after a failure: the first delay in polling intervals, doubled per attempt, up to an
 * hour. Where the role lacks a privilege, or the store has vectors of several lengths, the first delay is an
 * hour: only people can help.
 */
const RETRY_POLLS = 6;
const RETRY_MS_MAX = 3_600_000;

/**
 * Starts the index worker. On Postgres a session-level advisory lock lets it run in one process at a time
 * over all that use the database. `report` gets the errors of failed steps and of a lost session; the worker
 * goes on after them.
 */
export function startIndexWorker(
  database: Database,
  options: IndexOptions,
  report: (error: unknown) => void,
): IndexWorker {
  let awake = new AbortController();
  const { stop } = runExclusively(
    database,
    "vector indexes",
    async (pool, signal) => {
      const context = { database, pool, signal };
      const splitter = new ShardSplitter(options.shardBytes);
      while (!signal.aborted) {
        awake = new AbortController();
        await flagDue(context, options).catch(tolerateContention);
        const number = await pickDue(context);
        if (number === undefined) {
          await splitter
            .look(context)
            .catch((error: unknown) => (signal.aborted ? undefined : report(error)));
          await delay(options.pollMs, undefined, { signal: AbortSignal.any([signal, awake.signal]) }).catch(
            () => {},
          );
        } else {
          await work(context, number, options)
            .catch((error: unknown) => fail(context, number, error, options, report))
            .catch(tolerateContention);
        }
      }
    },
    { report, retryMs: options.pollMs },
  );
  return { wake: () => awake.abort(), stop };
}

/**
 * Swallows lock timeouts and cancellations of the worker's own bookkeeping statements: the next poll repeats
 * them.
 */
function tolerateContention(error: unknown): void {
  if (!isLockTimeout(error) && !isCancelled(error)) throw error;
}

/**
 * Gives a store its own table and index now and in this process, whatever its size: sets its policy to
 * `always`, and resolves when searches use the index. Takes no worker lock: call it only while no index
 * worker runs, and for a store whose dimensions are set.
 */
export async function promoteStore(
  database: Database,
  storeId: string,
  options: IndexOptions,
  signal: AbortSignal = new AbortController().signal,
): Promise<void> {
  const { pool, tables } = database;
  const { rows } = await transaction(pool, async (client) => {
    await client.query(`update ${tables.vectorStores} set index_policy = 'always' where id = $1`, [storeId]);
    return client.query<{ number: string }>(
      `insert into ${tables.indexes} as plan (vector_store_id) values ($1)
       on conflict (vector_store_id) do update set due = true, due_since = now() returning number`,
      [storeId],
    );
  });
  await using session = openSession(database);
  const context = { database, pool: session.pool, signal: AbortSignal.any([signal, session.lost]) };
  await work(context, rows[0]?.number ?? "", { ...options, quietMs: 0 });
}

/**
 * Marks stores as due whose vectors have passed the threshold, or whose policy is `always` and whose
 * dimensions are set.
 */
async function flagDue(
  { database, pool, signal }: WorkContext,
  { thresholdBytes }: IndexOptions,
): Promise<void> {
  const { tables } = database;
  // SKIP LOCKED: a store whose row a long upload has locked is picked up at a later poll. The scan reads
  // every store's row, about 20 ms for 100,000; an index on the sizes would cost every write more than that.
  await transaction(
    pool,
    (client) =>
      client.query(
        `with large as (
         select id from ${tables.vectorStores}
         where index_state = 'none' and own_table is null and coalesce(expires_at > now(), true)
           and (index_policy = 'always' and dimensions is not null
             or index_policy = 'auto' and $1 > 0 and embedding_count * dimensions * 4 >= $1)
         for no key update skip locked
       ), flagged as (
         insert into ${tables.indexes} as plan (vector_store_id) select id from large
         on conflict (vector_store_id) do update set due = true, due_since = now()
         returning vector_store_id)
       update ${tables.vectorStores} set index_state = 'waiting' from flagged where id = vector_store_id`,
        [thresholdBytes],
      ),
    signal,
  );
}

async function pickDue({ database, pool, signal }: WorkContext): Promise<string | undefined> {
  const { rows } = await cancellable(pool, signal, (client) =>
    client.query<{ number: string }>(
      `select number from ${database.tables.indexes} where due and coalesce(retry_at <= now(), true)
       order by vector_store_id is not null, due_since limit 1 for update skip locked`,
    ),
  );
  return rows[0]?.number;
}

/**
 * Runs steps for one store until none is left or the store must wait. Throws when the steps make no progress:
 * the catalog contradicts itself or the tables, and without the backoff of a failure this loop would be a
 * busy loop.
 */
async function work(context: WorkContext, number: string, options: IndexOptions): Promise<void> {
  const { database, pool } = context;
  const progress = new Progress();
  for (;;) {
    context.signal.throwIfAborted();
    const plan = await cancellable(pool, context.signal, (client) =>
      findPlan(client, database.tables, number),
    );
    if (plan === undefined) return;
    const step = nextStep(plan, options);
    progress.check(step, plan);
    if (step === undefined && (await settle(context, plan, options))) return;
    if (step === "wait") return postpone(context, number, options, "ingest");
    if (step === undefined) continue;
    const attributes = { "pgquiver.vector_store_id": plan.id ?? "" };
    const storeId = plan.id ?? undefined;
    const startedAt = performance.now();
    options.onStep?.(step, storeId);
    await traced(
      `index ${step}`,
      () => ({ attributes }),
      () => take(step, context, plan, options),
      "root",
    );
    options.onStep?.(step, storeId, Math.round(performance.now() - startedAt));
  }
}

/**
 * How often one run of `work` may take the same step. Once is the rule; requests that arrive meanwhile make
 * it a few times.
 */
const REPEATS_MAX = 5;

/** Watches the steps of one run of `work` for a lack of progress. */
class Progress {
  #previous: string | undefined;
  readonly #taken = new Map<Step | undefined, number>();

  /**
   * Call it before a step is taken. Throws when the step before has changed nothing in the store's plan, and
   * when the same step is due for the (`REPEATS_MAX` + 1)th time, as in a cycle of several steps.
   */
  check(step: Step | undefined, plan: Plan): void {
    // The two ages change by themselves.
    const state = JSON.stringify({ ...plan, due_ms: 0, ingest_ms: 0 });
    const times = (this.#taken.get(step) ?? 0) + 1;
    this.#taken.set(step, times);
    if (state === this.#previous) throw new NoProgress(`The step before "${step}" changed nothing`, plan);
    if (times > REPEATS_MAX) throw new NoProgress(`The step "${step}" is due again and again`, plan);
    this.#previous = state;
  }
}

/** The steps for a store make no progress, or the next one is impossible. */
class NoProgress extends Error {
  constructor(fault: string, { number, phase }: Plan) {
    super(`${fault}: the catalog's row ${number}, in phase "${phase}", contradicts the store or its tables.`);
  }
}

/** Marks a plan as no longer due, unless a step became due since the last look; then returns false. */
async function settle(
  { database, pool, signal }: WorkContext,
  plan: Plan,
  options: IndexOptions,
): Promise<boolean> {
  const { tables } = database;
  return transaction(
    pool,
    async (client) => {
      await client.query(`select 1 from ${tables.indexes} where number = $1 for update`, [plan.number]);
      const current = await findPlan(client, tables, plan.number);
      if (current === undefined || nextStep(current, options) !== undefined) return false;
      await updatePlan(client, tables, plan, { due: false, attempts: 0, last_error: null });
      return true;
    },
    signal,
  );
}

/** The store's `index_state` during a step. A store with an index in use stays `ready` throughout. */
const STATES: Partial<Record<Step, "moving" | "building" | "none">> = {
  create: "moving",
  copy: "moving",
  switch: "moving",
  withdraw: "none",
  rest: "none",
  clean: "building",
  design: "building",
  build: "building",
};

/** The steps that need no own table. */
const WITHOUT_TABLE: ReadonlySet<Step> = new Set<Step>(["drop", "create", "rest"]);

async function take(
  step: Exclude<Step, "wait">,
  context: WorkContext,
  plan: Plan,
  options: IndexOptions,
): Promise<void> {
  const { database, pool } = context;
  // Without an own table `placeTables` names the shared one, which a step would drop, or index, instead.
  if (plan.own_table === null && !WITHOUT_TABLE.has(step))
    throw new NoProgress(`The step "${step}" is due without a table`, plan);
  const state = STATES[step];
  if (state !== undefined && plan.current_index === null && plan.index_state !== state)
    await transaction(
      pool,
      (client) => updateStoreIndex(client, database.tables, plan, { index_state: state }),
      context.signal,
    );
  switch (step) {
    case "drop":
      return drop(context, plan);
    case "withdraw":
      return withdraw(context, plan);
    case "create":
      return createTable(context, plan, options.language);
    case "copy":
      return copyStoreRows(context, plan);
    case "switch":
      return switchTable(context, plan);
    case "clean":
      return cleanShared(context, plan);
    case "design":
      return designIndex(context, plan);
    case "build":
      return buildIndex(context, plan, options);
    case "replace":
      return replaceIndex(context, plan);
    case "remove_index":
      return removeIndex(context, plan);
    case "index_attributes":
      return indexAttributes(context, plan);
    case "rest":
  }
}

/** Drops the own table of a deleted store, then its catalog row. */
async function drop({ database, pool, signal }: WorkContext, plan: Plan): Promise<void> {
  await transaction(
    pool,
    async (client) => {
      if (plan.own_table !== null)
        await client.query(`drop table if exists ${placeTables(database.tables, plan).embeddings}`);
      await client.query(`delete from ${database.tables.indexes} where number = $1`, [plan.number]);
    },
    signal,
  );
}

/**
 * Postpones a store by `WAIT_POLLS` polling intervals: its locks are held, or a bulk ingest is
 * running and has not ended since the plan was read.
 */
async function postpone(
  { database, pool, signal }: WorkContext,
  number: string,
  { pollMs }: IndexOptions,
  reason: "locks" | "ingest",
): Promise<void> {
  const { tables } = database;
  const still =
    reason === "locks"
      ? "true"
      : `exists (select from ${tables.ingests} as ingest where ingest.vector_store_id = plan.vector_store_id and state = 'open')`;
  await transaction(
    pool,
    (client) =>
      client.query(
        `update ${tables.indexes} as plan set retry_at = now() + $2 * interval '1 millisecond' where number = $1 and ${still}`,
        [number, WAIT_POLLS * pollMs],
      ),
    signal,
  );
}

/**
 * Records a failed step in the catalog and schedules its retry. Rethrows when the session was lost or the
 * worker stopped: the connection is no longer usable.
 */
async function fail(
  context: WorkContext,
  number: string,
  error: unknown,
  options: IndexOptions,
  report: (error: unknown) => void,
): Promise<void> {
  const { database, pool, signal } = context;
  const { tables } = database;
  if (signal.aborted) throw error;
  if (isLockTimeout(error)) return postpone(context, number, options, "locks");
  // A deletion locks this row, then cancels the worker's statement: wait for its commit, to see that the
  // store is gone.
  const plan = await cancellable(pool, signal, async (client) => {
    await client.query(`select 1 from ${tables.indexes} where number = $1 for update`, [number]);
    return findPlan(client, tables, number);
  });
  if (plan === undefined) return;
  // Cancelled on purpose, by the deletion of the store or by `watch` in build.ts: no failure.
  if (isCancelled(error) && (plan.id === null || plan.index_policy === "never")) return;
  report(error);
  const isHopeless =
    error instanceof MixedDimensions ||
    error instanceof InsufficientPrivilege ||
    isInsufficientPrivilege(error);
  await transaction(
    pool,
    (client) =>
      client.query(
        `with failed as (
         update ${tables.indexes} set attempts = attempts + 1, last_error = $2,
           retry_at = now() + least($3 * power(2, least(attempts, 20)), ${RETRY_MS_MAX}) * interval '1 millisecond'
         where number = $1 returning vector_store_id)
       update ${tables.vectorStores} set index_state = 'failed'
       from failed where id = vector_store_id and index_precision is null`,
        [number, (error as Error).message, isHopeless ? RETRY_MS_MAX : RETRY_POLLS * options.pollMs],
      ),
    signal,
  );
}
