import { limits } from "../limits.ts";
import { INDEX_DIMENSIONS_MAX, type Precision } from "../postgres/vector-index.ts";
import { RECALL_IN_USE, type SearchKind } from "../storage/recall.ts";
import { findingsOr, type Finding, type Subject } from "./finding.ts";

/** Maximum number of stores listed. */
const STORES_MAX = 20;

interface Missed {
  id: string;
  kind: SearchKind;
  recall: number;
  target: number;
  ef_search: number;
  precision: Precision;
  dimensions: number;
  m: number;
  ef_construction: number;
}

/** Checks for stores whose index does not reach the recall asked, whatever `ef_search` its searches use. */
export async function checkRecall({ client, database }: Subject): Promise<Finding[]> {
  const { vectorStores, indexes } = database.tables;
  const { rows } = await client.query<Missed>(
    `select * from (
       select store.id, kind.key as kind, (kind.value ->> 'recall')::float8 as recall,
         coalesce(plan.target_recall, $1) as target, (kind.value ->> 'ef_search')::int as ef_search,
         current_index ->> 'precision' as precision, dimensions, (current_index ->> 'm')::int as m,
         (current_index ->> 'ef_construction')::int as ef_construction
       from ${vectorStores} as store join ${indexes} as plan on plan.vector_store_id = store.id,
         jsonb_each((${RECALL_IN_USE}) - 'index') as kind
       -- A target that has changed since is still to be tuned for.
       where (kind.value ->> 'target')::float8 = coalesce(plan.target_recall, $1)) as measured
     where recall < target order by target - recall desc, id limit ${STORES_MAX}`,
    [limits.target_recall_default],
  );
  const findings = rows.map((store): Finding => {
    const { id, kind, recall, target, ef_search: efSearch } = store;
    const searches = kind === "filtered" ? "Filtered searches" : "Searches";
    const message = `${searches} of store ${id} find ${floor(recall)} of the nearest rows, of ${target} asked, with ef_search ${efSearch}; a higher one finds hardly more.`;
    return { severity: "warning", message, remedy: suggest(store), storeId: id };
  });
  return findingsOr(findings, "No index is known to find less than is asked of it.");
}

/** Rounds down to three digits, so that a recall below the target does not look like it. */
function floor(recall: number): string {
  return (Math.floor(recall * 1000) / 1000).toString();
}

/** The next better design of an index. */
function suggest({ id, precision, dimensions, m, ef_construction: efConstruction, recall }: Missed): string {
  const larger = Math.min(limits.index_m_max, Math.ceil(1.5 * m));
  const change =
    precision === "binary" && dimensions <= INDEX_DIMENSIONS_MAX.float16
      ? { precision: "float16" }
      : larger > m
        ? {
            m: larger,
            ef_construction: Math.min(
              limits.index_ef_construction_max,
              Math.max(2 * larger, Math.ceil(1.5 * efConstruction)),
            ),
          }
        : undefined;
  const path = `POST /v1/vector_stores/${id}/index`;
  return change === undefined
    ? `Ask for less: ${path} {"target_recall": ${floor(recall)}}`
    : `Rebuild the index with ${Object.entries(change)
        .map((setting) => setting.join(" "))
        .join(" and ")}: ${path} ${JSON.stringify(change)}`;
}
