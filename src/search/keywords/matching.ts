import type { Tables } from "../../postgres/tables.ts";
import { textVector } from "../../postgres/text-index.ts";
import { bind } from "../../filters/sql.ts";
import { selectWords } from "../../storage/words.ts";
import { relativeLength, SCORE, weigh } from "./bm25.ts";

/** Maximum number of rows ranked per search and tier; of more matches any 5,000. */
const RANKED_ROWS_MAX = 5_000;

/** Maximum number of rows counted that have a word. */
const COUNTED_ROWS_MAX = 1_000;

/** Number of texts of whose lengths the mean is taken. */
const SAMPLED_ROWS = 200;

/**
 * Rows of the sample of a table on another node, roughly and at most twice as many, and the number of them from which a word
 * is common.
 */
const NODE_SAMPLED_ROWS = 500;
const COMMON_SAMPLED_ROWS = 5;

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
   * Number of rows of the store, for a table that has the words of its texts and may be on another node of a Citus cluster:
   * the statement then reads no other table, so the node can run all of it. Undefined: the statement reads the number.
   */
  storeRows: number | undefined;
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
 * other tables all rows are read, and their words counted. The shared table's are cached (see word-cache.ts); to split a
 * text takes 25 microseconds for 280 characters.
 */
export function selectMatching(tables: Tables, search: KeywordSearch, params: unknown[]): string {
  const { condition, hasWords, isAlone } = search;
  const limit = bind(params, search.rowsMax, "int");
  const source = hasWords ? `only ${tables.embeddings} where ${condition}` : "matching_texts where true";
  const names = ["all_words", "rare_words", ...(isAlone ? ["any_words"] : [])];
  const tiers = names.map((name, tier) => {
    const query = (other: string) => `(select ${other} from wanted)`;
    const earlier = names.slice(0, tier).map((other) => `(select count(*) from with_${other})`);
    // A row that has all words has a rare one too.
    const others = tier === 0 ? "" : `and not content_tsvector @@ ${query(names[tier - 1] as string)}`;
    return `with_${name} as materialized (
      select ${tables.id}, (select ${SCORE} from words) as score
      from (select ${tables.id}, ${DECOMPRESSED} as content_tsvector, ${relativeLength("(select mean_length from sizes)")} as k
        from ${source} and content_tsvector @@ ${query(name)} ${others}
        and ${["0", ...earlier].join(" + ")} < ${limit} limit ${RANKED_ROWS_MAX}) candidates
      order by score desc, ${tables.id} limit ${limit})`;
  });
  return `${selectLexemes(tables, search, params)},
    ${selectCounts(tables, search, params)},
    words as materialized (
      select *, ${weigh("rows", "(select all_rows from sizes)")} as weight, sum(rows) over (order by rows, quoted) as total,
        row_number() over (order by rows, quoted) as number
      from counted),
    wanted as materialized (
      select string_agg(quoted, ' & ')::tsquery as all_words, string_agg(quoted, ' | ')::tsquery as any_words,
        (string_agg(quoted, ' | ') filter (where number = 1 or total <= ${RANKED_ROWS_MAX}))::tsquery as rare_words
      from words),
    ${tiers.join(",\n    ")},
    matching as materialized (
      select ${tables.id}, row_number() over (order by score desc, ${tables.id}) as position
      from (${names.map((name) => `select * from with_${name}`).join(" union all ")}) found order by position limit ${limit})`;
}

/** CTE of the words to search for, `quoted` for a tsquery, with the estimated number of `rows` that have them; null: unknown. */
function selectLexemes(
  tables: Tables,
  { text, language, hasWords, storeRows }: KeywordSearch,
  params: unknown[],
): string {
  const words = `unnest(tsvector_to_array(${textVector(bind(params, text, "text"), language)})) as word`;
  // The statistics of a shard are on its worker only, and a search through the coordinator must find the same.
  const isKnown = hasWords && storeRows === undefined;
  const common = isKnown
    ? `left join (${selectFrequencies(tables, params)}) frequencies using (word)`
    : "cross join (select null::float8 as rows) none";
  return `lexemes as materialized (
      select ${QUOTED} as quoted, (${QUOTED})::tsquery as query, rows from ${words} ${common}
      order by rows nulls first, length(word) desc, word limit ${WORDS_MAX})`;
}

/** CTEs `sizes` and `counted`, by what the table has. */
function selectCounts(tables: Tables, search: KeywordSearch, params: unknown[]): string {
  if (!search.hasWords) return selectTexts(tables, search, params);
  if (search.storeRows === undefined) return selectSizes(tables, search, params);
  return selectSampledSizes(tables, search.storeRows, params);
}

/**
 * CTEs for a table that has the words of its texts: `sizes`, the number of rows and the mean length of some texts; and
 * `counted`, the words with the number of rows that have them. What is not among the thousand most common words is counted.
 */
function selectSizes(
  { embeddings, vectorStores }: Tables,
  { storeId }: KeywordSearch,
  params: unknown[],
): string {
  const count = `select count(*) from (select from only ${embeddings} where content_tsvector @@ query limit ${COUNTED_ROWS_MAX}) having_word`;
  return `sizes as materialized (
      select (select embedding_count from ${vectorStores} where id = ${bind(params, storeId, "text")})::float8 as all_rows,
        (select avg(length(content_tsvector)) from (select content_tsvector from only ${embeddings} limit ${SAMPLED_ROWS}) sample)::float8 as mean_length),
    counted as materialized (select quoted, query, round(coalesce(rows, (${count}))::float8) as rows from lexemes)`;
}

/**
 * The CTEs of `selectSizes` for a table on another node, with `storeRows`. A random sample, the same for each search, tells how
 * many rows have a common word. Rarer words are counted among rows that have any of them, since a table of several shards
 * cannot be asked for each word; among these rows a common word would leave no place for the others.
 */
function selectSampledSizes({ embeddings }: Tables, storeRows: number, params: unknown[]): string {
  // The share is a literal: on its way to a worker of Citus a parameter of TABLESAMPLE loses its type.
  const share = Math.min(100, (100 * NODE_SAMPLED_ROWS) / Math.max(1, storeRows));
  return `sample as materialized (
      select content_tsvector from only ${embeddings} tablesample system (${share}) repeatable (0)
      limit ${2 * NODE_SAMPLED_ROWS}),
    sizes as materialized (
      select ${bind(params, storeRows, "float8")} as all_rows, avg(length(content_tsvector))::float8 as mean_length,
        count(*) as sampled_rows
      from sample),
    sampled as materialized (
      select quoted, query, count(content_tsvector) as found
      from lexemes left join sample on content_tsvector @@ query group by quoted, query),
    having_any as materialized (
      select content_tsvector from only ${embeddings}
      where content_tsvector @@ (select string_agg(quoted, ' | ')::tsquery from sampled where found < ${COMMON_SAMPLED_ROWS})
      limit ${COUNTED_ROWS_MAX}),
    counted as materialized (
      select quoted, query, case when found < ${COMMON_SAMPLED_ROWS} then count(content_tsvector)::float8
        else round(found * (select all_rows / sampled_rows from sizes)) end as rows
      from sampled left join having_any on found < ${COMMON_SAMPLED_ROWS} and content_tsvector @@ query
      group by quoted, query, found)`;
}

/** The CTEs of `selectSizes` for other tables, of which all rows are read, and `matching_texts`: rows that have any word. */
function selectTexts(
  tables: Tables,
  { condition, language, storeId }: KeywordSearch,
  params: unknown[],
): string {
  const anyWord = "(select string_agg(quoted, ' | ')::tsquery from lexemes)";
  const split =
    tables.words === ""
      ? `select ${tables.id}, ${textVector(tables.content, language)} as content_tsvector from only ${tables.embeddings} where ${condition}`
      : selectWords(tables, bind(params, storeId, "text"), condition, language);
  // OFFSET 0 keeps the planner from splitting each text twice, and from reading all rows once for each word.
  return `texts as materialized (
      select ${tables.id}, length(content_tsvector) as length, case when content_tsvector @@ ${anyWord} then content_tsvector end as content_tsvector
      from (${split} offset 0) split),
    matching_texts as materialized (select * from texts where content_tsvector is not null),
    sizes as materialized (select count(*)::float8 as all_rows, avg(length)::float8 as mean_length from texts),
    counted as materialized (
      select quoted, query, count(*)::float8 as rows
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
