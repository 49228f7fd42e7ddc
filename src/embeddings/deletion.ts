import { encodeArray, OID } from "../postgres/array.ts";
import type { Database } from "../postgres/database.ts";
import { isStatementFault, isUndefinedTable } from "../postgres/errors.ts";
import { Rider } from "../postgres/protocol/rider.ts";
import type { Tables } from "../postgres/tables.ts";
import { composeRemovalOf } from "../storage/counts.ts";
import { deletionOf } from "../storage/embeddings.ts";
import { writeKnownStore, type KnownStore } from "../storage/placement.ts";

/** Rows to be deleted, and what is committed with that. */
export interface Removal {
  /** Distinct. */
  ids: readonly string[];
  riders: readonly Rider[];
}

/**
 * Deletes rows by id and counts that, in one transaction of one round trip, for a store that is `known` from an earlier
 * one. False when nothing was committed, because the store has another table now, is gone, or lacks one of the ids.
 * `choose` is called when a connection is there. Throws the database's error otherwise.
 */
export async function deleteAtOnce(
  { pool, tables }: Database,
  known: KnownStore,
  choose: () => Removal,
): Promise<boolean> {
  const compose = (placed: Tables) => {
    const { ids, riders } = choose();
    if (ids.length === 0) return [];
    const rider = Rider.statementOf(riders);
    const all = encodeArray(
      OID.text,
      ids.map((id) => Buffer.from(id)),
    );
    return [
      {
        text: `with ${deletionOf(placed)}, counted as (${composeRemovalOf(placed, "removed")})
          select 1 / (count(*) = $3::int)::int from removed`,
        values: [known.id, all, String(ids.length)],
      },
      ...(rider === undefined ? [] : [{ text: rider, values: [] }]),
    ];
  };
  try {
    await writeKnownStore(pool, tables, known, compose, { lockRow: true });
    return true;
  } catch (error) {
    if (!(isStatementFault(error) || isUndefinedTable(error))) throw error;
    return false;
  }
}
