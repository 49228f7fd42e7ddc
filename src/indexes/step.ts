import { compareAttributes } from "./attributes.ts";
import { designOf, isSameDesign, type Plan } from "./plan.ts";

/** The next step for a store. */
export type Step =
  /** The store was deleted: drop its own table and the catalog row. */
  | "drop"
  /** No index is wanted any more, or the copy is stale: drop the unfinished copy. */
  | "withdraw"
  /** Create the own table. */
  | "create"
  /** Copy the rows. */
  | "copy"
  /** Catch up and switch reads and writes to the own table. */
  | "switch"
  /** Delete the rows from the shared table and make the own table its child. */
  | "clean"
  /** Choose the name and the parameters of the index to be built. */
  | "design"
  /** Build the index and use it. */
  | "build"
  /** Drop the indexes that the new one replaces. */
  | "replace"
  /** The policy is `never`: drop the index. */
  | "remove_index"
  /** Build the indexes of declared attributes, and drop those of others. */
  | "index_attributes"
  /** Reset the store's `index_state` to `none`. */
  | "rest"
  /** Postpone: a bulk ingest is running. */
  | "wait";

/** When a store gets a table and an index, and how long a running ingest may postpone them. */
export interface StepOptions {
  /** Bytes of vectors (rows x dimensions x 4) from which policy `auto` gives a store an index; 0: never. */
  thresholdBytes: number;
  /**
   * Milliseconds after its last write for which an open bulk ingest still counts as running: an index slows
   * inserts.
   */
  quietMs: number;
  /** Milliseconds after which work that is due is no longer postponed. */
  patienceMs: number;
}

/**
 * Chooses the next step for a store from the recorded state alone, not from the step done last. So every step
 * is idempotent: one that was interrupted, by a crash as well, is chosen again. Undefined when nothing is
 * left to do.
 */
export function nextStep(plan: Plan, options: StepOptions): Step | undefined {
  if (plan.id === null) return "drop";
  const wanted = isWanted(plan, options);
  const isLoading =
    plan.ingest_ms !== null && plan.ingest_ms < options.quietMs && plan.due_ms < options.patienceMs;
  switch (plan.phase) {
    case "shared":
      if (!wanted) return plan.index_state === "none" ? undefined : "rest";
      return isLoading && plan.index_policy === "auto" ? "wait" : "create";
    case "copying":
      return wanted && !plan.is_stale ? "copy" : "withdraw";
    case "following":
      return wanted && !plan.is_stale ? "switch" : "withdraw";
    case "cleaning":
      return "clean";
    case "settled":
      if (!wanted) return nextRemoval(plan) ?? nextAttributes(plan, isLoading);
      if (plan.next_index === null && plan.current_index !== null && !plan.rebuild)
        return nextAttributes(plan, isLoading);
      if (plan.next_index === null) return "design";
      if (plan.next_index.name === plan.current_index?.name) return "replace";
      // The request changed before the build, perhaps because the first one cannot be built.
      if (!isSameDesign(designOf(plan), plan.next_index)) return "design";
      return isLoading ? "wait" : "build";
  }
}

function isWanted(plan: Plan, { thresholdBytes }: StepOptions): boolean {
  if (plan.dimensions === null || plan.index_policy === "never") return false;
  // Hysteresis: a move that has begun is finished, and a store that has its own table keeps it, even if it
  // has shrunk below the threshold since.
  if (plan.index_policy === "always" || plan.phase !== "shared") return true;
  return thresholdBytes > 0 && Number(plan.embedding_count) * plan.dimensions * 4 >= thresholdBytes;
}

function nextRemoval(plan: Plan): Step | undefined {
  if (plan.current_index !== null || plan.next_index !== null) return "remove_index";
  return plan.index_state === "none" ? undefined : "rest";
}

function nextAttributes(plan: Plan, isLoading: boolean): Step | undefined {
  const { missing, surplus } = compareAttributes(plan);
  if (missing.length > 0 && isLoading) return "wait";
  return missing.length + surplus.length > 0 ? "index_attributes" : undefined;
}
