import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";

/** Tokens that one project, key and model used on one day. */
export interface TokenUse {
  project: string;
  /** UTC, such as 2026-11-26. */
  day: string;
  model: string;
  /** "" for background work. */
  keyId: string;
  tokens: number;
  requests: number;
}

/** What results may be told apart by. */
export const TOKEN_GROUPS = ["project_id", "api_key_id", "model"] as const;
export type TokenGroup = (typeof TOKEN_GROUPS)[number];

/** Which of the usage is asked for; an empty list means all. */
export interface TokenQuery {
  /** First day, and the day after the last one. */
  from: string;
  until: string;
  groupBy: readonly TokenGroup[];
  only: Readonly<Record<TokenGroup, readonly string[]>>;
}

/** A sum of usage; the columns that it is not grouped by are absent. */
export interface TokenSum extends Partial<Record<TokenGroup, string>> {
  day: string;
  /** Bigints, as text. */
  input_tokens: string;
  requests: string;
}

/** Adds usage to what is stored. */
export async function addTokens(client: Queryable, tables: Tables, uses: readonly TokenUse[]): Promise<void> {
  // In the order of the key: two processes that add at the same time cannot deadlock.
  await client.query(
    `insert into ${tables.tokenUsage} as stored (project_id, day, model, api_key_id, input_tokens, requests)
     select * from unnest($1::text[], $2::date[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
       as used (project_id, day, model, api_key_id, input_tokens, requests)
     order by project_id, day, model, api_key_id
     on conflict (project_id, day, model, api_key_id) do update
       set input_tokens = stored.input_tokens + excluded.input_tokens, requests = stored.requests + excluded.requests`,
    [
      uses.map(({ project }) => project),
      uses.map(({ day }) => day),
      uses.map(({ model }) => model),
      uses.map(({ keyId }) => keyId),
      uses.map(({ tokens }) => tokens),
      uses.map(({ requests }) => requests),
    ],
  );
}

/** Reads the usage per day, in order of time. */
export async function sumTokens(
  client: Queryable,
  tables: Tables,
  { from, until, groupBy, only }: TokenQuery,
): Promise<TokenSum[]> {
  const params: unknown[] = [from, until];
  const conditions = TOKEN_GROUPS.filter((name) => only[name].length > 0).map(
    (name) => `${name} = any($${params.push(only[name])}::text[])`,
  );
  const groups = ["day", ...groupBy].join(", ");
  const result = await client.query<TokenSum>(
    `select ${["day::text", ...groupBy].join(", ")}, sum(input_tokens)::text as input_tokens, sum(requests)::text as requests
     from ${tables.tokenUsage} where ${["day >= $1::date", "day < $2::date", ...conditions].join(" and ")}
     group by ${groups} order by ${groups}`,
    params,
  );
  return result.rows;
}

/** Tokens that a project may use in this month (UTC), and has used; undefined: it has no quota of them. */
export async function findTokenQuota(
  client: Queryable,
  tables: Tables,
  project: string,
): Promise<{ max: number; used: number } | undefined> {
  const result = await client.query<{ max: number; used: number }>({
    name: "find_token_quota",
    text: `select max_embedding_tokens_per_month::float8 as max, (
        select coalesce(sum(input_tokens), 0)::float8 from ${tables.tokenUsage} as used
        where used.project_id = quota.project_id and used.day >= date_trunc('month', now() at time zone 'utc')::date
      ) as used
      from ${tables.quotas} as quota where project_id = $1 and max_embedding_tokens_per_month is not null`,
    values: [project],
  });
  return result.rows[0];
}
