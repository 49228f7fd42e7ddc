import { selectAttributeIndexes, type AttributeIndex } from "../../filters/attribute-index.ts";
import { indexAttributes } from "../../indexes/attributes.ts";
import { ensureIndex, namePrefix } from "../../indexes/build.ts";
import { designOf, findPlan, type Plan, type VectorIndex } from "../../indexes/plan.ts";
import { finishTable } from "../../indexes/table.ts";
import { placeTables } from "../../postgres/tables.ts";
import { cancellable } from "../../postgres/transaction.ts";
import { defaultPrecision, INDEX_DIMENSIONS_MAX } from "../../postgres/vector-index.ts";
import { readPlaced } from "../../storage/placement.ts";
import { catchUp } from "./copy.ts";
import { withJob, type JobContext } from "./context.ts";
import { updateJob, type Job } from "./jobs.ts";

/** Texts of the store that are searched for with both models, and results of each that are compared. */
const COMPARED_MAX = 20;
export const COMPARED_RESULTS = 10;

/**
 * The store's plan as it will be with the second table; undefined when the store has no row in the catalog of indexes, which is
 * made with the job.
 */
export async function planSecond(
  { database, pool, signal }: JobContext,
  job: Job,
): Promise<Plan | undefined> {
  const { own_table, dimensions, plan_number: number } = job;
  if (number === null) return undefined;
  return cancellable(pool, signal, async (client) => {
    const plan = await findPlan(client, database.tables, number);
    if (plan === undefined) return undefined;
    const { rows } = await client.query<{ found: AttributeIndex[] }>(
      `select (${selectAttributeIndexes("second.name")}) as found from (select $1::text as name) as second`,
      [own_table],
    );
    const attributeIndexes = rows[0]?.found ?? [];
    return { ...plan, own_table, dimensions, current_index: null, attribute_indexes: attributeIndexes };
  });
}

/** The vector index of the second table; undefined: the store is to have none. */
export function designSecond(plan: Plan): VectorIndex | undefined {
  const { dimensions } = plan;
  if (dimensions === null || plan.index_policy === "never") return undefined;
  const design = designOf(plan);
  // The precision was asked for vectors of other dimensions.
  const fits = dimensions <= INDEX_DIMENSIONS_MAX[design.precision];
  const precision = fits ? design.precision : defaultPrecision(dimensions);
  return { name: `${namePrefix(plan)}0`, ...design, precision };
}

/**
 * Builds the indexes of the second table, after most changes were applied to it, and compares what searches find in both
 * tables.
 */
export async function finishSecondTable(context: JobContext, job: Job): Promise<void> {
  await catchUp(context, job);
  const { database, pool, signal, options } = context;
  const plan = await planSecond(context, job);
  if (plan === undefined) throw new Error("The store has no row in the catalog of indexes.");
  const work = { database, pool, signal };
  await finishTable(work, plan);
  const index = designSecond(plan);
  if (index !== undefined) await ensureIndex(work, plan, index, options);
  await indexAttributes(work, plan);
  const compared = await compare(context, job);
  await withJob(context, job, (client, locked) =>
    updateJob(client, database.tables, locked, { phase: "switching", ...compared }),
  );
}

/**
 * Searches for a sample of the store's own texts by their old vectors in the store's table, and by their new ones in the
 * second, both exactly, and returns the mean share of results in common, the text itself left aside.
 */
async function compare(
  { database, pool, signal }: JobContext,
  job: Job,
): Promise<{ compared: number; overlap: number | null }> {
  const { tables } = database;
  const { id, embedding, vectorStoreId } = tables;
  const { vector_store_id: storeId, source_table: own_table, former_dimensions, dimensions } = job;
  const second = placeTables(tables, job).embeddings;
  return readPlaced(
    pool,
    tables,
    { id: storeId, own_table },
    async (client, { embeddings: source }) => {
      // One table a statement: a Citus cluster joins no local table with a distributed one.
      const { rows: sample } = await client.query<{ id: string; former: string }>(
        // Adopted stores may have vectors of several lengths, which cannot be compared.
        `select ${id} as id, ${embedding}::text as former from only ${source}
         where ${vectorStoreId} = $1 and vector_dims(${embedding}) = $2 order by md5(${id}) limit $3`,
        [storeId, former_dimensions, COMPARED_MAX],
      );
      const { rows: made } = await client.query<{ id: string; present: string }>(
        `select ${id} as id, ${embedding}::text as present from only ${second} where ${vectorStoreId} = $1 and ${id} = any($2::text[])`,
        [storeId, sample.map((row) => row.id)],
      );
      const present = new Map(made.map((row) => [row.id, row.present]));
      const nearest = async (table: string, length: number | null, own: string, vector: string) => {
        const { rows } = await client.query<{ id: string }>(
          `select ${id} as id from only ${table} where ${vectorStoreId} = $1 and vector_dims(${embedding}) = $2 and ${id} <> $3
           order by ${embedding} <=> $4::vector, ${id} limit $5`,
          [storeId, length, own, vector, COMPARED_RESULTS],
        );
        return rows.map((row) => row.id);
      };
      const shares: number[] = [];
      for (const { id: own, former } of sample) {
        const vector = present.get(own);
        if (vector === undefined) continue;
        const before = await nearest(source, former_dimensions, own, former);
        if (before.length === 0) continue;
        const after = new Set(await nearest(second, dimensions, own, vector));
        shares.push(before.filter((found) => after.has(found)).length / before.length);
      }
      const sum = shares.reduce((total, share) => total + share, 0);
      return { compared: shares.length, overlap: shares.length === 0 ? null : sum / shares.length };
    },
    signal,
  );
}
