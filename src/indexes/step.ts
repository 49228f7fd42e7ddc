import { designOf, isSameDesign, type Plan } from "./plan.ts";

/** The one thing to do next for a store. */
export type Step =
  /** The store is gone: its table has to go too. */
  | "drop"
  /** Nothing is wanted any more: the table that is not in use has to go. */
  | "withdraw"
  | "create"
  | "copy"
  | "switch"
  | "clean"
  /** Names the index to be built. */
  | "design"
  | "build"
  /** Drops the indexes that the new one replaces. */
  | "replace"
  /** An index is forbidden: the one that is there has to go. */
  | "remove_index"
  /** What the store's row says is to be nothing again. */
  | "rest"
  /** It is put off while rows are being loaded. */
  | "wait";

/** When a store is to have a table and an index of its own, and how long this is put off. */
export interface StepOptions {
  /** Bytes of vectors from which on it is automatic; 0: never. */
  thresholdBytes: number;
  /** A bulk ingest counts as going on for this long after it last moved; an index built meanwhile would slow it. */
  quietMs: number;
  /** Nothing is put off for longer. */
  patienceMs: number;
}

/**
 * Says what to do next for a store, by what is there and not by what was done last: so any step may be cut off at any
 * time, and is done again. Undefined when all is as it should be.
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
      if (!wanted) return nextRemoval(plan);
      if (plan.next_index === null) return plan.current_index === null || plan.rebuild ? "design" : undefined;
      if (plan.next_index.name === plan.current_index?.name) return "replace";
      // What was asked for has changed, perhaps because it cannot be built.
      if (!isSameDesign(designOf(plan), plan.next_index)) return "design";
      return isLoading ? "wait" : "build";
  }
}

function isWanted(plan: Plan, { thresholdBytes }: StepOptions): boolean {
  if (plan.dimensions === null || plan.index_policy === "never") return false;
  // What was begun is brought to its end, and what was loaded into a table of its own stays there.
  if (plan.index_policy === "always" || plan.phase !== "shared") return true;
  return thresholdBytes > 0 && Number(plan.embedding_count) * plan.dimensions * 4 >= thresholdBytes;
}

function nextRemoval(plan: Plan): Step | undefined {
  if (plan.current_index !== null || plan.next_index !== null) return "remove_index";
  return plan.index_state === "none" ? undefined : "rest";
}
