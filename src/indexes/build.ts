import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import type { Client, Database } from "../postgres/database.ts";
import { isDataException } from "../postgres/errors.ts";
import { placeTables, type Tables } from "../postgres/tables.ts";
import { cancellable, transaction } from "../postgres/transaction.ts";
import { INDEX_DIMENSIONS_MAX, vectorExpression } from "../postgres/vector-index.ts";
import type { WorkContext } from "./context.ts";
import {
  designOf,
  isSameDesign,
  lockPlan,
  updatePlan,
  updateStoreIndex,
  type Design,
  type Plan,
  type VectorIndex,
} from "./plan.ts";

/** The server's resources that one index build may use. */
export interface BuildOptions {
  /** Upper bound of `maintenance_work_mem`. A graph that outgrows it is built on disk, many times slower. */
  memoryBytes: number;
  /** `max_parallel_maintenance_workers`: parallel workers in addition to the session itself. */
  workers: number;
}

/** Polling interval at which a running build checks that the store's policy still wants an index. */
const WATCH_MS = 1_000;

/**
 * Stores the name and the parameters of the next index before the build starts, so that a build cut off by a
 * crash can be found by its name. Drops leftovers of earlier builds. Throws when the precision does not allow
 * the store's dimensions.
 */
export async function designIndex(context: WorkContext, plan: Plan): Promise<void> {
  const { database, pool, signal } = context;
  const { tables } = database;
  await dropIndexes(context, plan, plan.current_index?.name);
  await transaction(
    pool,
    async (client) => {
      const locked = await lockPlan(client, tables, plan);
      if (locked === undefined || locked.dimensions === null) return;
      const design = designOf(locked);
      const dimensionsMax = INDEX_DIMENSIONS_MAX[design.precision];
      if (locked.dimensions > dimensionsMax) {
        throw new Error(
          `An index of precision ${design.precision} allows at most ${dimensionsMax} dimensions, but the store has ${locked.dimensions}.`,
        );
      }
      const { rows } = await client.query<{ number: string }>(
        "select nextval(pg_get_serial_sequence($1, 'number')) as number",
        [tables.indexes],
      );
      const next: VectorIndex = { name: `${namePrefix(locked)}${rows[0]?.number}`, ...design };
      await updatePlan(client, tables, locked, { next_index: next });
    },
    signal,
  );
}

/** The prefix of the names of an own table's vector indexes. */
export function namePrefix(plan: Pick<Plan, "own_table">): string {
  return `${plan.own_table}_hnsw_`;
}

/**
 * Builds the next index beside the current one, if any, then makes searches use it. Does nothing but the last
 * part when a valid index of that name exists, so the step is idempotent.
 */
export async function buildIndex(context: WorkContext, plan: Plan, options: BuildOptions): Promise<void> {
  const { database, pool, signal } = context;
  const { tables } = database;
  const next = plan.next_index;
  if (next === null) return;
  await ensureIndex(context, plan, next, options);
  await cancellable(pool, signal, (client) =>
    client.query(`analyze ${placeTables(tables, plan).embeddings}`),
  );
  await transaction(
    pool,
    async (client) => {
      const locked = await lockPlan(client, tables, plan);
      if (locked?.next_index?.name !== next.name || locked.index_policy === "never") return;
      const isTuned = locked.current_index !== null && isSameDesign(locked.current_index, next);
      await updateStoreIndex(client, tables, plan, {
        index_precision: next.precision,
        index_state: "ready",
        // What was tuned for another design may be far too little for this one.
        ...(isTuned ? {} : { ef_search: null, filtered_ef_search: null }),
      });
      await updatePlan(client, tables, plan, {
        current_index: { ...next, built_at: new Date().toISOString() },
        rebuild: !isSameDesign(designOf(locked), next),
        attempts: 0,
        last_error: null,
      });
    },
    signal,
  );
}

/** Builds an index, unless there is a valid one of its name, and drops others that are neither valid nor in use. */
export async function ensureIndex(
  context: WorkContext,
  plan: Plan,
  next: VectorIndex,
  options: BuildOptions,
): Promise<void> {
  if ((await findIndexes(context, plan)).some(({ name, valid }) => name === next.name && valid)) return;
  await dropIndexes(context, plan, plan.current_index?.name);
  await createIndex(context, plan, next, options);
}

/**
 * The vector indexes of a store's own table, invalid ones included; `identifier` is schema-qualified and
 * quoted.
 */
async function findIndexes(
  { pool, signal }: WorkContext,
  plan: Plan,
): Promise<{ name: string; identifier: string; valid: boolean }[]> {
  const result = await cancellable(pool, signal, (client) =>
    client.query<{ name: string; identifier: string; valid: boolean }>(
      `select relname as name, format('%I.%I', nspname, relname) as identifier, indisvalid as valid
       from pg_index join pg_class on pg_class.oid = indexrelid join pg_namespace on pg_namespace.oid = relnamespace
       where indrelid = to_regclass(quote_ident($1)) and starts_with(relname, $2)`,
      [plan.own_table, namePrefix(plan)],
    ),
  );
  return result.rows;
}

async function createIndex(
  context: WorkContext,
  plan: Plan,
  next: VectorIndex,
  options: BuildOptions,
): Promise<void> {
  const { database, pool, signal } = context;
  const placed = placeTables(database.tables, plan);
  const { embedding, embeddings } = placed;
  const { indexed, operatorClass } = vectorExpression(embedding, next.precision, plan.dimensions ?? 0);
  const memoryBytes = Math.min(options.memoryBytes, estimateBytes(plan, next));
  const create = (client: Client, workers: number) =>
    withSettings(
      client,
      {
        maintenance_work_mem: `${Math.ceil(memoryBytes / 1024)}kB`,
        max_parallel_maintenance_workers: workers,
        // CREATE INDEX CONCURRENTLY waits for older transactions but blocks nobody, so it needs no lock
        // timeout.
        lock_timeout: 0,
      },
      () =>
        client.query(
          `create index ${database.kind === "embedded" ? "" : "concurrently"} ${pg.escapeIdentifier(next.name)}
           on ${embeddings} using hnsw (${indexed} ${operatorClass}) with (m = ${next.m}, ef_construction = ${next.ef_construction})`,
        ),
    );
  if (database.kind === "embedded") {
    await cancellable(pool, signal, (client) => create(client, 0)).catch((error: unknown) => {
      throw explainMixed(error, plan, placed);
    });
    return;
  }
  const built = new AbortController();
  const watched = watch(database, plan, built.signal);
  try {
    await cancellable(pool, signal, (client) => create(client, options.workers)).catch(
      async (error: unknown) => {
        if (!lacksSharedMemory(error)) throw explainMixed(error, plan, placed);
        await dropIndexes(context, plan, plan.current_index?.name);
        await cancellable(pool, signal, (client) => create(client, 0));
      },
    );
  } finally {
    built.abort();
    await watched;
  }
}

/**
 * The store has vectors of several lengths, as an adopted one may: an index holds one length. Only the owner of
 * the rows can mend that, so retries are rare.
 */
export class MixedDimensions extends Error {}

/** Explains pgvector's error for a vector of another length than the index's; other errors as they are. */
function explainMixed(error: unknown, { id, dimensions }: Plan, { embedding, embeddings }: Tables): unknown {
  if (!isDataException(error)) return error;
  return new MixedDimensions(
    `Store ${id} has ${dimensions} dimensions and vectors of other lengths, which no index can hold, so its searches ` +
      `stay exact. To see them: select * from ${embeddings} where vector_dims(${embedding}) <> ${dimensions};`,
    { cause: error },
  );
}

/**
 * Parallel workers share the graph in dynamic shared memory (/dev/shm), which is 64 MiB in a container by
 * default. When it runs out, the error comes from dsm_impl.c; the source file is matched because the message
 * is translated.
 */
function lacksSharedMemory(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.file === "dsm_impl.c";
}

/** Runs `work` with session settings (SET), and resets them afterwards. */
export async function withSettings<T>(
  client: Client,
  settings: Record<string, string | number>,
  work: () => Promise<T>,
): Promise<T> {
  for (const [name, value] of Object.entries(settings)) await client.query(`set ${name} = '${value}'`);
  try {
    return await work();
  } finally {
    for (const name of Object.keys(settings)) await client.query(`reset ${name}`).catch(() => {});
  }
}

/**
 * Bytes to build the whole HNSW graph in memory, with a margin of a quarter and 64 MiB: per row the vector at
 * the index's precision, 256 bytes for the element, and 2 m neighbours of 24 bytes at the lowest level, 1/m
 * more for the levels above (pgvector's src/hnsw.h).
 */
function estimateBytes(plan: Plan, { precision, m }: Design): number {
  const dimensions = plan.dimensions ?? 0;
  const vectorBytes = { float32: 4 * dimensions, float16: 2 * dimensions, binary: dimensions / 8 }[precision];
  const rowBytes = vectorBytes + 256 + 2 * m * 24 * (1 + 1 / m);
  return 64 * 1024 * 1024 + 1.25 * rowBytes * Number(plan.embedding_count);
}

/**
 * Cancels the running build once the store's policy is `never`. Deleting the store cancels the build from its
 * own side.
 */
async function watch({ pool, tables }: Database, plan: Plan, built: AbortSignal): Promise<void> {
  while (!built.aborted) {
    await delay(WATCH_MS, undefined, { signal: built }).catch(() => {});
    if (built.aborted) return;
    // A failed poll is ignored: the next one sees the same.
    await pool
      .query(
        `select pg_cancel_backend(progress.pid) from ${tables.vectorStores} as store
         join pg_stat_progress_create_index as progress
           on progress.relid = to_regclass(quote_ident(store.own_table)) and progress.datname = current_database()
         where store.id = $1 and store.index_policy = 'never'`,
        [plan.id],
      )
      .catch(() => {});
  }
}

/** Drops every vector index of the store except the current one. */
export async function replaceIndex(context: WorkContext, plan: Plan): Promise<void> {
  await dropIndexes(context, plan, plan.current_index?.name);
  await forgetNext(context, plan);
}

async function forgetNext({ database, pool, signal }: WorkContext, plan: Plan): Promise<void> {
  await transaction(
    pool,
    (client) => updatePlan(client, database.tables, plan, { next_index: null }),
    signal,
  );
}

/**
 * Makes searches exact again, then drops every vector index of the store. Does nothing if an index is wanted
 * again: the policy is not `never`, and the store's dimensions are set.
 */
export async function removeIndex(context: WorkContext, plan: Plan): Promise<void> {
  const { database, pool, signal } = context;
  const { tables } = database;
  const isRemoved = await transaction(
    pool,
    async (client) => {
      const locked = await lockPlan(client, tables, plan);
      if (locked === undefined) return false;
      if (locked.index_policy !== "never" && locked.dimensions !== null) return false;
      await updateStoreIndex(client, tables, plan, { index_precision: null, index_state: "none" });
      // Recorded as not yet built: if the policy changes back before the DROP, the existing index is reused.
      await updatePlan(client, tables, plan, {
        current_index: null,
        next_index: locked.next_index ?? locked.current_index,
        rebuild: false,
      });
      return true;
    },
    signal,
  );
  if (!isRemoved) return;
  await dropIndexes(context, plan, undefined);
  await forgetNext(context, plan);
}

/**
 * Drops a store's vector indexes except `kept`; on Postgres by DROP INDEX CONCURRENTLY, which blocks neither
 * readers nor writers.
 */
async function dropIndexes(context: WorkContext, plan: Plan, kept: string | undefined): Promise<void> {
  const { database, pool, signal } = context;
  const concurrently = database.kind === "embedded" ? "" : "concurrently";
  for (const { name, identifier } of await findIndexes(context, plan)) {
    if (name === kept) continue;
    await cancellable(pool, signal, (client) =>
      client.query(`drop index ${concurrently} if exists ${identifier}`),
    );
  }
}
