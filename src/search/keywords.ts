import type { Tables } from "../postgres/tables.ts";
import { textVector } from "../postgres/text-index.ts";
import { bind } from "../filters/sql.ts";

/** Rows ranked for one search, at most; where more have the words, so many of them. Ranking 5,000 takes some 15 ms. */
const RANKED_ROWS_MAX = 5_000;

/** Words of a text that are searched for, at most: the rarest. */
const WORDS_MAX = 32;

/** A search by the words of a text. */
export interface KeywordSearch {
  text: string;
  /** Text search configuration. */
  language: string;
  /** SQL: which rows take part. */
  condition: string;
  rowsMax: number;
  /** Whether the store has a table of its own. */
  isOwn: boolean;
  /** Whether nothing else finds rows, so that those which have but one common word are wanted too. */
  isAlone: boolean;
}

/**
 * Common table expressions of a search by keywords, of which the last, `matching`, has the `id` of the best rows and
 * their `position` from 1. Rows with all words of the text come first; where those are fewer than `rowsMax`, rows with
 * any that is not too common; where these are still fewer and nothing else finds rows, rows with any. Within each by
 * `ts_rank`, then by id.
 *
 * In a table of its own a store's words are in the column `content_tsvector`, which has a GIN index. How common a word
 * is comes from the planner's statistics: half the store may have it, and ranking takes a visit to each row. In the
 * shared table the words are taken from the texts on the spot, some 25 microseconds for each of 280 characters.
 */
export function selectMatching(tables: Tables, search: KeywordSearch, params: unknown[]): string {
  const { condition, isOwn, isAlone, language } = search;
  const limit = bind(params, search.rowsMax, "int");
  const words = `unnest(tsvector_to_array(${textVector(bind(params, search.text, "text"), language)})) as word`;
  const frequencies = isOwn ? `(${selectFrequencies(tables, params)})` : "(select null as word, 0 as rows)";
  const texts = `texts as materialized (
      select ${tables.id}, ${textVector(tables.content, language)} as content_tsvector
      from only ${tables.embeddings} where ${condition}),`;
  const source = isOwn ? `only ${tables.embeddings} where ${condition}` : "texts where true";
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
    ${isOwn ? "" : texts}
    ${tiers.join(",\n    ")},
    matching as materialized (
      select ${tables.id}, row_number() over (order by tier, rank desc, ${tables.id}) as position
      from (select distinct on (${tables.id}) * from (${names.map((name) => `select * from with_${name}`).join(" union all ")}) found
        order by ${tables.id}, tier) best
      order by position limit ${limit})`;
}

/** A word as a tsquery is written. */
const QUOTED = String.raw`'''' || replace(replace(word, '\', '\\'), '''', '''''') || ''''`;

/** The most common words of a store with how many rows have them; nothing before its first ANALYZE. */
function selectFrequencies(tables: Tables, params: unknown[]): string {
  const table = `${bind(params, tables.embeddings, "text")}::regclass`;
  return `select common.word, common.share * reltuples as rows
      from pg_class join pg_namespace on pg_namespace.oid = relnamespace
      join pg_stats on schemaname = nspname and tablename = relname and attname = 'content_tsvector',
      unnest(most_common_elems::text::text[], most_common_elem_freqs) as common (word, share)
      where pg_class.oid = ${table} and common.word is not null`;
}
