import type { Tables } from "../../postgres/tables.ts";
import { textVector } from "../../postgres/text-index.ts";
import { bind } from "../../filters/sql.ts";
import { FREQUENCY, LENGTH, selectScores, selectWeights } from "./bm25.ts";

/** Maximum number of rows ranked per search and tier; of more matches any 5,000. */
const RANKED_ROWS_MAX = 5_000;

/** Maximum number of words used of a query: the rarest ones, as far as that is known, then the longest. */
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
  /** The store's id. */
  storeId: string;
  /**
   * Whether there is no vector search beside this one; then rows with a single common word are returned too.
   */
  isAlone: boolean;
}

/**
 * Composes the common table expressions of a keyword search. The last one, `matching`, has the `id` of the
 * best rows and their `position` from 1, ordered by BM25 (see bm25.ts), then by id. The rows to rank are found in tiers:
 * first rows with all words; if these are fewer than `rowsMax`, also rows with any word that is not too common; if there
 * are still fewer and `isAlone`, also rows with any word.
 *
 * A store's own table may have the column `content_tsvector` with a GIN index. Its common words come from the
 * planner's statistics (pg_stats): a word of half the rows would make ranking read half the table. In
 * other tables all rows are read, and their words counted; to split a text takes 25 microseconds for 280 characters.
 */
export function selectMatching(tables: Tables, search: KeywordSearch, params: unknown[]): string {
  const { condition, hasWords, isAlone, storeId } = search;
  const limit = bind(params, search.rowsMax, "int");
  const source = hasWords ? `only ${tables.embeddings} where ${condition}` : "matching_texts where true";
  const names = ["all_words", "rare_words", ...(isAlone ? ["any_words"] : [])];
  const tiers = names.map((name, tier) => {
    const query = (other: string) => `(select ${other} from wanted)`;
    const earlier = names.slice(0, tier).map((other) => `(select count(*) from with_${other})`);
    // A row that has all words has a rare one too.
    const others = tier === 0 ? "" : `and not content_tsvector @@ ${query(names[tier - 1] as string)}`;
    return `with_${name} as materialized (
      select ${tables.id}, ${LENGTH} as length, (select array_agg(${FREQUENCY}) from words) as frequencies
      from (select ${tables.id}, ${DECOMPRESSED} as content_tsvector from ${source} and content_tsvector @@ ${query(name)} ${others}
        and ${["0", ...earlier].join(" + ")} < ${limit} limit ${RANKED_ROWS_MAX}) candidates)`;
  });
  return `${selectLexemes(tables, search, params)},
    ${hasWords ? "" : `${selectTexts(tables, search)},`}
    words as materialized (
      select query, quoted, rows, sum(rows) over (order by rows, quoted) as total, row_number() over (order by rows, quoted) as number
      from ${hasWords ? "lexemes" : "counted"} order by number),
    wanted as materialized (
      select string_agg(quoted, ' & ')::tsquery as all_words, string_agg(quoted, ' | ')::tsquery as any_words,
        (string_agg(quoted, ' | ') filter (where number = 1 or total <= ${RANKED_ROWS_MAX}))::tsquery as rare_words
      from words),
    ${tiers.join(",\n    ")},
    found as materialized (${names.map((name) => `select * from with_${name}`).join(" union all ")}),
    ${selectWeights(hasWords ? `(select embedding_count from ${tables.vectorStores} where id = ${bind(params, storeId, "text")})` : "(select count(*) from texts)")},
    matching as materialized (
      select ${tables.id}, row_number() over (order by score desc, ${tables.id}) as position
      from (${selectScores(tables.id)}) scored order by position limit ${limit})`;
}

/** CTE of the words to search for, `quoted` for a tsquery, with the estimated number of `rows` that have them. */
function selectLexemes(
  tables: Tables,
  { text, language, hasWords }: KeywordSearch,
  params: unknown[],
): string {
  const words = `unnest(tsvector_to_array(${textVector(bind(params, text, "text"), language)})) as word`;
  const common = hasWords
    ? `left join (${selectFrequencies(tables, params)}) frequencies using (word)`
    : "cross join (select 0 as rows) none";
  return `lexemes as materialized (
      select ${QUOTED} as quoted, (${QUOTED})::tsquery as query, coalesce(rows, 0) as rows from ${words} ${common}
      order by coalesce(rows, 0), length(word) desc, word limit ${WORDS_MAX})`;
}

/**
 * CTEs of all rows to search, `texts`, with the tsvector of those that have any word; of these rows alone; and of the words
 * that any row has, with the number of rows.
 */
function selectTexts(tables: Tables, { condition, language }: KeywordSearch): string {
  const anyWord = "(select string_agg(quoted, ' | ')::tsquery from lexemes)";
  const split = `select ${tables.id}, ${textVector(tables.content, language)} as content_tsvector from only ${tables.embeddings} where ${condition}`;
  // OFFSET 0 keeps the planner from splitting each text twice.
  return `texts as materialized (
      select ${tables.id}, case when content_tsvector @@ ${anyWord} then content_tsvector end as content_tsvector
      from (${split} offset 0) split),
    matching_texts as materialized (select * from texts where content_tsvector is not null),
    counted as materialized (
      select quoted, query, count(*) as rows
      from matching_texts cross join lateral (select * from lexemes where content_tsvector @@ query offset 0) having_word
      group by quoted, query)`;
}

/** The tsvector, copied, since each function that reads a compressed one would decompress it for itself. */
const DECOMPRESSED = "content_tsvector || ''::tsvector";

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
