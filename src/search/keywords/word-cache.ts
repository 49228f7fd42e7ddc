import { setTimeout as delay } from "node:timers/promises";
import { placementLock, tryLock } from "../../postgres/advisory.ts";
import type { Client, Database } from "../../postgres/database.ts";
import { asService } from "../../postgres/row-security/call.ts";
import type { Tables } from "../../postgres/tables.ts";
import { transaction } from "../../postgres/transaction.ts";
import { deleteStrayWords, findUnsplit, splitTexts, type Unsplit } from "../../storage/words.ts";

/** A store that is searched by words is looked at again after this time, and its texts when they have changed. */
const AGAIN_MS = 10_000;
/** How often, and after which pause, a store whose writers are at work is tried. */
const ATTEMPTS_MAX = 10;
const PAUSE_MS = 50;
/** Texts that a search splits in a millisecond or two: so few are not worth a transaction. */
const UNSPLIT_MIN = 50;
/** Bounds of one transaction, during which the store's writers wait: texts, and characters, which take 10 ms. */
const BATCH_ROWS_MAX = 200;
const BATCH_CHARS_MAX = 100_000;
/** Stores that may wait for their turn, and stores whose time is remembered. */
const WAITING_MAX = 100;
const KNOWN_MAX = 10_000;
/** A store with more rows is to have a table of its own, and fills no cache. */
const STORE_ROWS_MAX = 100_000;

/**
 * Caches the words of texts in the shared table, of stores that are searched by words: no search waits, and one store at a
 * time is worked on.
 */
export class WordCache {
  readonly #pool: Database["pool"];
  readonly #tables: Tables;
  readonly #looks = new Map<string, Look>();
  #waiting = 0;
  #last: Promise<void> = Promise.resolve();

  /** `pool` must be the primary's. */
  constructor(pool: Database["pool"], tables: Tables) {
    this.#pool = pool;
    this.#tables = tables;
  }

  /** Notes that a store in the shared table was searched by words. Resolves when its turn is over; never rejects. */
  async note(storeId: string, language: string): Promise<void> {
    const now = performance.now();
    const look = this.#looks.get(storeId) ?? { atMs: -Infinity, seen: undefined };
    if (now - look.atMs < AGAIN_MS || this.#waiting >= WAITING_MAX) return;
    if (this.#looks.size >= KNOWN_MAX) this.#looks.clear();
    look.atMs = now;
    this.#looks.set(storeId, look);
    this.#waiting++;
    const fill = () => asService(() => this.#look(storeId, language, look));
    // After a failure the next search after a while tries again.
    this.#last = this.#last
      .then(fill)
      .catch(() => {})
      .finally(() => this.#waiting--);
    await this.#last;
  }

  /** Looks through the store's texts, unless they are as they were after the last look. */
  async #look(storeId: string, language: string, look: Look): Promise<void> {
    const { rows } = await this.#pool.query<{ seen: string }>(
      `select concat_ws(' ', extract(epoch from created_at), row_changes, $3::text) as seen from ${this.#tables.vectorStores}
       where id = $1 and own_table is null and embedding_count <= $2`,
      [storeId, STORE_ROWS_MAX, language],
    );
    const seen = rows[0]?.seen;
    if (seen === undefined || seen === look.seen) return;
    await transaction(this.#pool, (client) => deleteStrayWords(client, this.#tables, storeId));
    if (await this.#fill(storeId, language)) look.seen = seen;
  }

  /** Caches the words of all texts that have none; false when writers kept it from that. */
  async #fill(storeId: string, language: string): Promise<boolean> {
    for (let after = "", attempts = 0; ;) {
      const page = { after, rowsMax: BATCH_ROWS_MAX };
      const found = await findUnsplit(this.#pool, this.#tables, storeId, language, page);
      if (found.length < UNSPLIT_MIN) return true;
      const startedAt = performance.now();
      const ids = takeBatch(found);
      const isWritten = await transaction(this.#pool, async (client) => {
        if (!(await this.#lock(client, storeId))) return false;
        await splitTexts(client, this.#tables, storeId, language, ids);
        return true;
      });
      if (isWritten) {
        after = ids.at(-1) ?? "";
        attempts = 0;
        // Leaves half of the time to others.
        await delay(performance.now() - startedAt);
      } else {
        if (++attempts === ATTEMPTS_MAX) return false;
        await delay(PAUSE_MS);
      }
    }
  }

  /** Shuts out writers of the store's rows for the transaction; false when one is at work, or the store has left the table. */
  async #lock(client: Client, storeId: string): Promise<boolean> {
    if (!(await tryLock(client, this.#tables, placementLock(storeId)))) return false;
    const here = `select from ${this.#tables.vectorStores} where id = $1 and own_table is null`;
    return (await client.query(here, [storeId])).rowCount === 1;
  }
}

/** When a store was looked at, and what its rows were after that; undefined: not all words were cached. */
interface Look {
  atMs: number;
  seen: string | undefined;
}

/** The ids of the first texts that have at most `BATCH_CHARS_MAX` together, of one at least. */
function takeBatch(found: readonly Unsplit[]): string[] {
  let chars = 0;
  return found
    .filter((text, index) => {
      chars += text.chars;
      return index === 0 || chars <= BATCH_CHARS_MAX;
    })
    .map(({ id }) => id);
}
