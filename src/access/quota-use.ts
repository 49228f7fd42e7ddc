import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { FILE_EXISTS } from "../storage/files.ts";
import { QUOTA_NAMES, type Quotas } from "./projects.ts";

/** A quota and how much of it is used, by its name. */
export type QuotaUses = Record<(typeof QUOTA_NAMES)[number], { max: number | null; used: number }>;

/** Reads the quotas of a project, and what it holds of each; tokens as far as processes have written them. */
export async function findQuotaUses(client: Queryable, tables: Tables, project: string): Promise<QuotaUses> {
  const result = await client.query<{ quotas: Quotas | null; used: Record<string, number> }>({
    name: "find_quota_uses",
    text: `select
        (select to_jsonb(quota) from ${tables.quotas} as quota where project_id = $1) as quotas,
        (select to_jsonb(held) from (
          select count(*) as max_stores, coalesce(sum(embedding_count), 0) as max_rows, coalesce(sum(usage_bytes), 0) as max_bytes
          from ${tables.vectorStores} where project_id = $1) as held)
        || (select to_jsonb(held) from (
          select count(*) as max_files, coalesce(sum(bytes), 0) as max_file_bytes from ${tables.files} where project_id = $1 and ${FILE_EXISTS}) as held)
        || (select to_jsonb(spent) from (
          select coalesce(sum(input_tokens), 0) as max_embedding_tokens_per_month from ${tables.tokenUsage}
          where project_id = $1 and day >= date_trunc('month', now() at time zone 'utc')::date) as spent) as used`,
    values: [project],
  });
  const { quotas, used } = result.rows[0] as { quotas: Quotas | null; used: Record<string, number> };
  const uses = QUOTA_NAMES.map((name) => [name, { max: quotas?.[name] ?? null, used: used[name] ?? 0 }]);
  return Object.fromEntries(uses) as QuotaUses;
}
