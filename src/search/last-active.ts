import type pg from "pg";
import type { Tables } from "../postgres/tables.ts";
import { asService } from "../postgres/row-security/call.ts";
import { transaction } from "../postgres/transaction.ts";
import { updateLastActive } from "../storage/counts.ts";

/**
 * Updates `last_active_at` of searched stores asynchronously: no search waits, and one UPDATE at a time
 * covers all stores searched since the last one. After a failed UPDATE, the next search of the store tries
 * again.
 */
export class LastActiveUpdater {
  readonly #pool: pg.Pool;
  readonly #tables: Tables;
  readonly #waiting = new Set<string>();
  /**
   * The stores updated in the second `#second`: the API shows whole seconds, so one update per second
   * suffices.
   */
  readonly #touched = new Set<string>();
  #second = 0;
  #isBusy = false;

  constructor(pool: pg.Pool, tables: Tables) {
    this.#pool = pool;
    this.#tables = tables;
  }

  touch(storeId: string): void {
    const second = Math.floor(Date.now() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#touched.clear();
    }
    if (this.#touched.has(storeId)) return;
    this.#touched.add(storeId);
    this.#waiting.add(storeId);
    if (!this.#isBusy) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isBusy = true;
    while (this.#waiting.size > 0) {
      const ids = [...this.#waiting];
      this.#waiting.clear();
      const update = async () =>
        transaction(this.#pool, (client) => updateLastActive(client, this.#tables, ids));
      // Stores of other projects too.
      await asService(update).catch(() => {
        for (const id of ids) this.#touched.delete(id);
      });
    }
    this.#isBusy = false;
  }
}
