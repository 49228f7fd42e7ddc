import { keep } from "../api/fresh-cache.ts";
import { withoutWaitBudget } from "../postgres/connection/wait-budget.ts";
import type { Database } from "../postgres/database.ts";
import { Rider, takeRider } from "../postgres/protocol/rider.ts";
import { sharedKey, withoutCaller } from "../postgres/row-security/call.ts";
import { countRemovalStatement } from "../storage/counts.ts";
import { deleteEmbeddingsById } from "../storage/embeddings.ts";
import { writeStoreFramed, type KnownStore } from "../storage/placement.ts";
import { deleteAtOnce } from "./deletion.ts";
import { SharedWait, type Turn } from "./shared-wait.ts";

/** Deletions that share a transaction. */
const GROUP_MAX = 128;

/** Stores whose tables are kept for their next transaction: those that rows were deleted from last. */
const KNOWN_MAX = 1_000;

/** A deletion that waits for a transaction, or is part of one. Its outcome: whether the store had the row. */
interface Deletion extends Turn<boolean> {
  id: string;
  /** What is to be committed with the deletion, if there is a row to delete. */
  rider: Rider | undefined;
}

/**
 * Group commit for deletions by id: those of one store that arrive while a transaction of the store is busy share the
 * next one, as small insertions do (`GroupCommit`). A deletion whose caller leaves before its transaction begins is
 * not made.
 */
export class GroupDeletion {
  readonly #database: Database;
  readonly #waits: SharedWait;
  /** The deletions that wait, by store and caller's project: a store is here as long as its transactions run. */
  readonly #waiting = new Map<string, Set<Deletion>>();
  /** Stores by id, with their tables as of their last transaction that read them. */
  readonly #known = new Map<string, KnownStore>();

  constructor(database: Database) {
    this.#database = database;
    this.#waits = new SharedWait(database.pool.options.max);
  }

  /**
   * Deletes a row; false when the store has no such row. Resolves after the commit. `id` is storable as text. Throws
   * NOT_FOUND for the store, and as `SharedWait`.
   */
  async delete(storeId: string, id: string, signal: AbortSignal): Promise<boolean> {
    let deletion: Deletion;
    const key = sharedKey(storeId);
    return this.#waits.wait<boolean>(
      signal,
      (turn) => {
        deletion = { id, rider: takeRider(), ...turn };
        this.#add(storeId, key, deletion);
      },
      () => this.#waiting.get(key)?.delete(deletion) === true,
    );
  }

  #add(storeId: string, key: string, deletion: Deletion): void {
    const waiting = this.#waiting.get(key);
    if (waiting !== undefined) {
      waiting.add(deletion);
      return;
    }
    this.#waiting.set(key, new Set([deletion]));
    void withoutCaller(() => withoutWaitBudget(() => this.#run(storeId, key)));
  }

  async #run(storeId: string, key: string): Promise<void> {
    const waiting = this.#waiting.get(key) as Set<Deletion>;
    while (waiting.size > 0) await this.#commitGroup(storeId, waiting);
    this.#waiting.delete(key);
  }

  async #commitGroup(storeId: string, waiting: Set<Deletion>): Promise<void> {
    const group: Deletion[] = [];
    try {
      const made =
        (await this.#deleteAtOnce(storeId, waiting, group)) ?? (await this.#delete(storeId, waiting, group));
      for (const deletion of group) {
        if (made.has(deletion)) deletion.rider?.settle(true);
        deletion.outcome.resolve(made.has(deletion));
      }
    } catch (error) {
      if (group.length === 0) group.push(...take(waiting));
      // No deletion can be the reason: each would have failed alone too.
      for (const { outcome } of group) outcome.reject(error);
    }
  }

  /**
   * Deletes the rows of a group, which it takes, in one round trip, if the store's table is known and all rows are there;
   * undefined: nothing was deleted.
   */
  async #deleteAtOnce(
    storeId: string,
    waiting: Set<Deletion>,
    group: Deletion[],
  ): Promise<Set<Deletion> | undefined> {
    const known = this.#known.get(storeId);
    if (known === undefined) return undefined;
    let made = new Set<Deletion>();
    const isDone = await deleteAtOnce(this.#database, known, () => {
      group.push(...take(waiting));
      const rows = new Map(group.toReversed().map((deletion) => [deletion.id, deletion]));
      made = new Set(rows.values());
      return { ids: [...rows.keys()], riders: ridersOf(made) };
    });
    return isDone ? made : undefined;
  }

  /** Deletes those rows of a group that are there; takes the group, if it has nobody. */
  async #delete(storeId: string, waiting: Set<Deletion>, group: Deletion[]): Promise<Set<Deletion>> {
    const { pool, tables } = this.#database;
    const made = new Set<Deletion>();
    await writeStoreFramed(
      pool,
      tables,
      storeId,
      async (client, placed, store) => {
        this.#remember(store);
        if (group.length === 0) group.push(...take(waiting));
        const ids = new Set(group.map(({ id }) => id));
        const removed = await deleteEmbeddingsById(client, placed, storeId, [...ids]);
        if (removed.rows === 0) return { result: undefined };
        // Of several deletions of one row the first has made it.
        for (const deletion of group) if (removed.ids.delete(deletion.id)) made.add(deletion);
        const rider = Rider.statementOf(ridersOf(made));
        const counting = countRemovalStatement(tables, storeId, removed);
        const closing = rider === undefined ? counting : `${counting}; ${rider}`;
        return { result: undefined, closing };
      },
      { lockRow: true },
    );
    return made;
  }

  /** Keeps a store's table for its next transaction; not in a cluster, where a statement's parts share no snapshot. */
  #remember({ id, own_table }: KnownStore): void {
    if (this.#database.citus !== undefined) return;
    keep(this.#known, id, { id, own_table }, KNOWN_MAX);
  }
}

/** What is committed with deletions. */
function ridersOf(made: ReadonlySet<Deletion>): Rider[] {
  return Array.from(made, ({ rider }) => rider).filter((rider) => rider !== undefined);
}

/** Takes the deletions of a transaction from those that wait. */
function take(waiting: Set<Deletion>): Deletion[] {
  const group = [...waiting].slice(0, GROUP_MAX);
  for (const deletion of group) {
    waiting.delete(deletion);
    deletion.begin();
  }
  return group;
}
