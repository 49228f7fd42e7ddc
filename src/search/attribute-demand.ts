import type { Attribute } from "../filters/attribute-index.ts";
import type { Database } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";

/** Searches that an index would have made much faster, after which the index is made. */
const SEARCHES_MIN = 20;
/** Indexes per store that nobody has declared: each one makes writes slower. */
const AUTOMATIC_MAX = 4;
/** Attributes counted at a time. */
const COUNTS_MAX = 10_000;

/**
 * Counts the searches for which an attribute lacked an index, and declares the attribute in the store's catalog
 * row, where the index worker finds it. Counts are kept per process, and start again when they are too many.
 */
export class AttributeDemand {
  readonly #pool: Database["pool"];
  readonly #tables: Tables;
  readonly #counts = new Map<string, number>();

  /** `pool` must be the primary's. */
  constructor(pool: Database["pool"], tables: Tables) {
    this.#pool = pool;
    this.#tables = tables;
  }

  /** Counts a search of the store. Resolves when the attributes that are now due are declared; never rejects. */
  async note(storeId: string, attributes: readonly Attribute[]): Promise<void> {
    for (const { key, type } of attributes) {
      const name = JSON.stringify([storeId, key, type]);
      const count = (this.#counts.get(name) ?? 0) + 1;
      if (count < SEARCHES_MIN) {
        if (this.#counts.size >= COUNTS_MAX) this.#counts.clear();
        this.#counts.set(name, count);
        continue;
      }
      this.#counts.delete(name);
      // After a failure the next searches count again.
      await this.#declare(storeId, { key, type }).catch(() => {});
    }
  }

  async #declare(storeId: string, attribute: Attribute): Promise<void> {
    await transaction(this.#pool, (client) =>
      client.query(
        `update ${this.#tables.indexes} as plan
       set attributes = attributes || jsonb_build_array($2::jsonb || '{"automatic": true}'),
         due = true, due_since = now(), retry_at = null
       from ${this.#tables.vectorStores} as store
       where store.id = $1 and plan.vector_store_id = store.id and store.index_policy = 'auto'
         and not attributes @> jsonb_build_array($2::jsonb)
         and jsonb_array_length(jsonb_path_query_array(attributes, '$[*] ? (@.automatic == true)')) < ${AUTOMATIC_MAX}`,
        [storeId, JSON.stringify(attribute)],
      ),
    );
  }
}
