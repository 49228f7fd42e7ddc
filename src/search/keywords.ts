import type { Tables } from "../postgres/tables.ts";
import { textVector } from "../postgres/text-index.ts";
import { bind } from "../filters/sql.ts";

/**
 * Maximum number of rows ranked per search and tier; of more matches any 5,000. Ranking 5,000 rows takes 15
 * ms.
 */
const RANKED_ROWS_MAX = 5_000;

/** Maximum number of words used of a query: the rarest ones. */
const WORDS_MAX = 32;

/** A keyword search: full-text search by the words of a text. */
export interface KeywordSearch {
  text: string;
  /** Postgres text search configuration, such as "english". */
  language: string;
  /** SQL condition that rows must meet. */
  condition: string;
  rowsMax: number;
  /** Whether the table has the words of its texts, as a store's own table does unless the store wants none. */
  hasWords: boolean;
  /**
   * Whether there is no vector search beside this one; then rows with a single common word are returned too.
   */
  isAlone: boolean;
}

/**
 * Composes the common table expressions of a keyword search. The last one, `matching`, has the `id` of the
 * best rows and their `position` from 1. Rows are found in tiers: first rows with all words; if these are
 * fewer than `rowsMax`, rows with any word that is not too common; if still fewer and `isAlone`, rows with
 * any word. Within a tier, rows are ordered by `ts_rank`, then by id.
 *
 * A store's own table may have the column `content_tsvector` with a GIN index. Word frequencies come from the
 * planner's statistics (pg_stats): a word of half the rows would make ranking read half the table. In
 * other tables the tsvector is computed per row, which takes 25 microseconds for a text of 280 characters.
 */
export function selectMatching(tables: Tables, search: KeywordSearch, params: unknown[]): string {
  const { condition, hasWords, isAlone, language } = search;
  const limit = bind(params, search.rowsMax, "int");
  const words = `unnest(tsvector_to_array(${textVector(bind(params, search.text, "text"), language)})) as word`;
  const frequencies = hasWords
    ? `(${selectFrequencies(tables, params)})`
    : "(select null as word, 0 as rows)";
  const texts = `texts as materialized (
      select ${tables.id}, ${textVector(tables.content, language)} as content_tsvector
      from only ${tables.embeddings} where ${condition}),`;
  const source = hasWords ? `only ${tables.embeddings} where ${condition}` : "texts where true";
  const names = ["all_words", "rare_words", ...(isAlone ? ["any_words"] : [])];
  const tiers = names.map((name, tier) => {
    const query = `(select ${name} from wanted)`;
    const earlier = names.slice(0, tier).map((other) => `(select count(*) from with_${other})`);
    return `with_${name} as materialized (
      select ${tables.id}, ${tier} as tier, ts_rank(content_tsvector, ${query}) as rank
      from (select ${tables.id}, content_tsvector from ${source} and content_tsvector @@ ${query}
        and ${["0", ...earlier].join(" + ")} < ${limit} limit ${RANKED_ROWS_MAX}) found
      order by rank desc, ${tables.id} limit ${limit})`;
  });
  return `words as materialized (
      select quoted, sum(rows) over (order by rows, word) as rows, row_number() over (order by rows, word) as number
      from (select word, coalesce(rows, 0) as rows, ${QUOTED} as quoted from ${words} left join ${frequencies} frequencies using (word)
        order by rows, word limit ${WORDS_MAX}) rarest),
    wanted as materialized (
      select string_agg(quoted, ' & ')::tsquery as all_words, string_agg(quoted, ' | ')::tsquery as any_words,
        (string_agg(quoted, ' | ') filter (where number = 1 or rows <= ${RANKED_ROWS_MAX}))::tsquery as rare_words
      from words),
    ${hasWords ? "" : texts}
    ${tiers.join(",\n    ")},
    matching as materialized (
      select ${tables.id}, row_number() over (order by tier, rank desc, ${tables.id}) as position
      from (select distinct on (${tables.id}) * from (${names.map((name) => `select * from with_${name}`).join(" union all ")}) found
        order by ${tables.id}, tier) best
      order by position limit ${limit})`;
}

/** SQL expression that quotes and escapes a word for use in a tsquery. */
const QUOTED = String.raw`'''' || replace(replace(word, '\', '\\'), '''', '''''') || ''''`;

/**
 * SELECT of a store's most common words and their estimated numbers of rows; empty before the first ANALYZE.
 */
function selectFrequencies(tables: Tables, params: unknown[]): string {
  const table = `${bind(params, tables.embeddings, "text")}::regclass`;
  return `select common.word, common.share * reltuples as rows
      from pg_class join pg_namespace on pg_namespace.oid = relnamespace
      join pg_stats on schemaname = nspname and tablename = relname and attname = 'content_tsvector',
      unnest(most_common_elems::text::text[], most_common_elem_freqs) as common (word, share)
      where pg_class.oid = ${table} and common.word is not null`;
}
