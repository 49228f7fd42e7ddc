import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { touchStores } from "../storage/counts.ts";

/**
 * Notes that stores are in use, behind the callers' backs: no search waits for it, and however many run, one
 * statement at a time does it for all of them. Should it fail, the next search of the store tries again.
 */
export class Touches {
  readonly #client: Queryable;
  readonly #tables: Tables;
  readonly #waiting = new Set<string>();
  /** The stores touched in `#second`; the API shows no more than seconds. */
  readonly #touched = new Set<string>();
  #second = 0;
  #isBusy = false;

  constructor(client: Queryable, tables: Tables) {
    this.#client = client;
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
      await touchStores(this.#client, this.#tables, ids).catch(() => {
        for (const id of ids) this.#touched.delete(id);
      });
    }
    this.#isBusy = false;
  }
}
