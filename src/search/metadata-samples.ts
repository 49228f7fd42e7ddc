import type pg from "pg";
import { SharedRun } from "../api/concurrency/shared-run.ts";
import { limits } from "../limits.ts";
import { selectAttributeIndexes, type AttributeIndex } from "../filters/attribute-index.ts";
import { SAMPLED_CHARS, type SampledColumns, type SampledValue } from "../filters/share.ts";
import { bind } from "../filters/sql.ts";
import type { Queryable } from "../postgres/database.ts";
import { placeTables, type Tables } from "../postgres/tables.ts";
import { cancellable } from "../postgres/transaction.ts";

/** A random sample of the metadata of a store with its own table. */
export interface MetadataSample {
  /** Rows of the store. */
  storeRows: number;
  /** Rows of the sample. */
  rows: number;
  columns: SampledColumns;
  /** Names of the table's attribute indexes that are in use. */
  attributeIndexes: ReadonlySet<string>;
  /** Name of the table, not quoted. */
  table: string;
}

/** A store whose rows are in a table of their own. */
interface OwnStore {
  id: string;
  own_table: string | null;
}

interface Entry {
  sample: MetadataSample;
  sampledAt: number;
}

/**
 * Rows per sample, roughly, and the pages of the table that they are drawn from. 1,000 rows tell one matching
 * row in a thousand, which is where the cheapest way to search 100,000 rows changes (`walk.ts`). Read from 400
 * pages of 20,000 rows of 384 dimensions a sample takes 2 to 4 ms.
 */
const SAMPLE_ROWS = 1_000;
const SAMPLE_PAGES = 400;
/** Items kept of a sampled list: most lists, such as those of readers, have few. */
const SAMPLED_ITEMS = 16;
/** Keys per sample; a filter with more keys gets no estimate. */
const SAMPLE_KEYS_MAX = 64;
/**
 * Age from which a sample is taken again, in the background: the search that notices uses the old one. What an
 * outdated sample costs is bounded by the limit on the walk.
 */
const SAMPLE_AGE_MS = 60_000;
const NEVER = new AbortController().signal;

/**
 * A cache of metadata samples by store, which tells how many rows a filter leaves before the store is searched.
 * The sample is kept by the keys that filters have asked for; the cache is bounded by the number of values, and
 * evicts the store used least recently.
 */
export class MetadataSamples {
  readonly #entries = new Map<string, Entry>();
  readonly #loading = new Map<string, SharedRun<MetadataSample>>();
  readonly #valuesMax: number;
  #values = 0;

  constructor(valuesMax: number = limits.sampled_values_max) {
    this.#valuesMax = valuesMax;
  }

  /** Number of values kept. */
  get values(): number {
    return this.#values;
  }

  /**
   * A sample of the store's rows with these keys, from the cache or drawn now. Undefined when it cannot be
   * drawn: there are too many keys, or the database refuses, as it will refuse the search.
   */
  async find(
    pool: pg.Pool,
    tables: Tables,
    store: OwnStore,
    keys: readonly string[],
    signal: AbortSignal,
  ): Promise<MetadataSample | undefined> {
    if (keys.length > SAMPLE_KEYS_MAX) return undefined;
    const name = `${store.own_table} ${store.id}`;
    const entry = this.#entries.get(name);
    const known = entry === undefined ? [] : [...entry.sample.columns.keys()];
    const all = [...new Set([...known, ...keys])];
    const load = (until: AbortSignal) =>
      this.#load(name, pool, tables, store, all.length > SAMPLE_KEYS_MAX ? keys : all, until);
    if (entry === undefined || keys.some((key) => !entry.sample.columns.has(key))) return load(signal);
    this.#entries.delete(name);
    this.#entries.set(name, entry);
    if (performance.now() - entry.sampledAt > SAMPLE_AGE_MS) {
      entry.sampledAt = performance.now();
      void load(NEVER);
    }
    return entry.sample;
  }

  /** Draws a sample, once for all who want one with the same keys at the same time. */
  async #load(
    name: string,
    pool: pg.Pool,
    tables: Tables,
    store: OwnStore,
    keys: readonly string[],
    signal: AbortSignal,
  ): Promise<MetadataSample | undefined> {
    const task = JSON.stringify([name, keys]);
    const draw = (until: AbortSignal) =>
      cancellable(pool, until, (client) => drawSample(client, placeTables(tables, store), store.id, keys));
    const run = this.#loading.get(task) ?? new SharedRun(draw);
    this.#loading.set(task, run);
    try {
      const sample = await run.join(signal);
      this.#add(name, sample);
      return sample;
    } catch {
      // The search itself meets the same error, or finds its store's row out of date, and handles either.
      signal.throwIfAborted();
      return undefined;
    } finally {
      this.#loading.delete(task);
    }
  }

  #add(name: string, sample: MetadataSample): void {
    this.#remove(name);
    this.#entries.set(name, { sample, sampledAt: performance.now() });
    this.#values += sizeOf(sample);
    for (const [oldest] of this.#entries) {
      if (this.#values <= this.#valuesMax) break;
      this.#remove(oldest);
    }
  }

  #remove(name: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    this.#values -= sizeOf(entry.sample);
    this.#entries.delete(name);
  }
}

function sizeOf({ rows, columns }: MetadataSample): number {
  return rows * (columns.size + 1);
}

const NOTHING = { pages: 0, rows: 0, indexes: [], table: "" };

/**
 * Reads random pages of the store's own table (TABLESAMPLE SYSTEM), and of their rows a random part, so that
 * narrow rows, of which a page has many that were written together, come from as many pages as wide ones.
 */
async function drawSample(
  client: Queryable,
  tables: Tables,
  storeId: string,
  keys: readonly string[],
): Promise<MetadataSample> {
  const size = await client.query<{ pages: number; rows: number; indexes: AttributeIndex[]; table: string }>(
    // Of a distributed table the coordinator has no page.
    `select coalesce(nullif(pg_relation_size($1::regclass), 0), embedding_count * dimensions * 4)::float8
         / current_setting('block_size')::float8 as pages, embedding_count::float8 as rows,
       (${selectAttributeIndexes("own_table")}) as indexes, own_table as table
     from ${tables.vectorStores} where id = $2`,
    [tables.embeddings, storeId],
  );
  const { pages, rows: storeRows, indexes, table } = size.rows[0] ?? NOTHING;
  const pageShare = Math.min(1, SAMPLE_PAGES / Math.max(1, pages));
  const rowShare = Math.min(1, SAMPLE_ROWS / Math.max(1, storeRows * pageShare));
  const params: unknown[] = [];
  const columns = keys.map((key) => {
    const name = bind(params, key, "text");
    const list = `when 'array' then (select coalesce(jsonb_agg(left(item, ${SAMPLED_CHARS})), '[]') from
      (select item from jsonb_array_elements_text(${tables.metadata} -> ${name}) as item limit ${SAMPLED_ITEMS}) as items)`;
    return `case jsonb_typeof(${tables.metadata} -> ${name}) when 'string' then to_jsonb(left(${tables.metadata} ->> ${name}, ${SAMPLED_CHARS}))
      when 'number' then ${tables.metadata} -> ${name} when 'boolean' then ${tables.metadata} -> ${name}
      ${list} when 'object' then '[]' end`;
  });
  // The share is a literal: on its way to a worker of Citus a parameter of TABLESAMPLE loses its type.
  const drawn = await client.query<{ sampled: SampledValue[] }>(
    `select jsonb_build_array(${columns.join(", ")}) as sampled
     from only ${tables.embeddings} tablesample system (${100 * pageShare})
     where random() < ${bind(params, rowShare, "float8")} limit ${2 * SAMPLE_ROWS}`,
    params,
  );
  const texts = new Map<SampledValue, SampledValue>();
  // Equal texts share one string, as most attributes have few values.
  const share = <Value extends SampledValue>(value: Value): Value =>
    (texts.get(value) as Value | undefined) ?? (texts.set(value, value), value);
  const shareAll = (value: SampledValue): SampledValue =>
    Array.isArray(value) ? (value as string[]).map(share) : share(value);
  return {
    storeRows,
    table,
    attributeIndexes: new Set(indexes.filter((index) => index.valid).map(({ name }) => name)),
    rows: drawn.rows.length,
    columns: new Map(
      keys.map((key, at) => [key, drawn.rows.map(({ sampled }) => shareAll(sampled[at] ?? null))]),
    ),
  };
}
