import { withoutWaitBudget } from "../postgres/connection/wait-budget.ts";
import type { Database } from "../postgres/database.ts";
import { takeRider, type Rider } from "../postgres/protocol/rider.ts";
import { sharedKey, withoutCaller } from "../postgres/row-security/call.ts";
import { countRemovalStatement } from "../storage/counts.ts";
import { deleteEmbeddingsById } from "../storage/embeddings.ts";
import { writeStoreFramed } from "../storage/placement.ts";
import { SharedWait, type Turn } from "./shared-wait.ts";

/** Deletions that share a transaction. */
const GROUP_MAX = 128;

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
    const { pool, tables } = this.#database;
    let group: Deletion[] = [];
    const made = new Set<Deletion>();
    try {
      await writeStoreFramed(
        pool,
        tables,
        storeId,
        async (client, placed) => {
          group = take(waiting);
          const ids = new Set(group.map(({ id }) => id));
          const removed = await deleteEmbeddingsById(client, placed, storeId, [...ids]);
          if (removed.rows === 0) return { result: undefined };
          // Of several deletions of one row the first has made it.
          for (const deletion of group) if (removed.ids.delete(deletion.id)) made.add(deletion);
          const riders = Array.from(made, ({ rider }) => rider?.statement).filter(
            (text) => text !== undefined,
          );
          const closing = [countRemovalStatement(tables, storeId, removed), ...riders].join("; ");
          return { result: undefined, closing };
        },
        { lockRow: true },
      );
      for (const deletion of group) {
        if (made.has(deletion)) deletion.rider?.settle(true);
        deletion.outcome.resolve(made.has(deletion));
      }
    } catch (error) {
      // No deletion can be the reason: each would have failed alone too.
      for (const { outcome } of group.length > 0 ? group : take(waiting)) outcome.reject(error);
    }
  }
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
