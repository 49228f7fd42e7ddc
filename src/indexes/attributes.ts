import pg from "pg";
import {
  attributeExpression,
  attributeIndexName,
  type Attribute,
  type AttributeIndex,
} from "../filters/attribute-index.ts";
import { placeTables } from "../postgres/tables.ts";
import { cancellable } from "../postgres/transaction.ts";
import { withSettings } from "./build.ts";
import type { WorkContext } from "./context.ts";
import type { Plan } from "./plan.ts";

/** What is to be done so that the own table has exactly the declared attribute indexes. */
export interface AttributeChanges {
  /** Attributes without a valid index. */
  missing: Attribute[];
  /** Indexes that nobody declares any more, or that a build which was cut off has left invalid. */
  surplus: AttributeIndex[];
}

/** Compares the declared attributes with the indexes that exist. */
export function compareAttributes({
  own_table,
  attributes,
  attribute_indexes,
}: Pick<Plan, "own_table" | "attributes" | "attribute_indexes">): AttributeChanges {
  if (own_table === null) return { missing: [], surplus: [] };
  const wanted = new Set(attributes.map((attribute) => attributeIndexName(own_table, attribute)));
  const valid = new Set(attribute_indexes.filter((index) => index.valid).map(({ name }) => name));
  return {
    missing: attributes.filter((attribute) => !valid.has(attributeIndexName(own_table, attribute))),
    surplus: attribute_indexes.filter(({ name, valid: isValid }) => !isValid || !wanted.has(name)),
  };
}

/**
 * Drops the surplus attribute indexes, then builds the missing ones, one after the other; on Postgres
 * CONCURRENTLY, which blocks neither readers nor writers. ANALYZE at the end gives the planner the statistics of
 * the indexed expressions.
 */
export async function indexAttributes(context: WorkContext, plan: Plan): Promise<void> {
  const { database, pool, signal } = context;
  const { embeddings, metadata } = placeTables(database.tables, plan);
  const concurrently = database.kind === "embedded" ? "" : "concurrently";
  const { missing, surplus } = compareAttributes(plan);
  // CONCURRENTLY waits for older transactions but blocks nobody, so it needs no lock timeout.
  const run = (statement: string) =>
    cancellable(pool, signal, (client) =>
      withSettings(client, { lock_timeout: 0 }, () => client.query(statement)),
    );
  for (const { identifier } of surplus) await run(`drop index ${concurrently} if exists ${identifier}`);
  for (const attribute of missing) {
    const name = pg.escapeIdentifier(attributeIndexName(plan.own_table ?? "", attribute));
    await run(
      `create index ${concurrently} ${name} on ${embeddings} (${attributeExpression(metadata, attribute)})`,
    );
  }
  if (missing.length > 0) await cancellable(pool, signal, (client) => client.query(`analyze ${embeddings}`));
}
