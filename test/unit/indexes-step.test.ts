import { expect, test } from "vitest";
import { attributeIndexName, type Attribute } from "../../src/filters/attribute-index.ts";
import type { Plan, VectorIndex } from "../../src/indexes/plan.ts";
import { nextStep } from "../../src/indexes/step.ts";

const options = { thresholdBytes: 1_200, quietMs: 5_000, patienceMs: 60_000 };

const index: VectorIndex = { name: "a", precision: "float16", m: 16, ef_construction: 64 };

/** A store of 100 vectors of 3 dimensions, just large enough. */
function plan(change: Partial<Plan> = {}): Plan {
  return {
    number: "1",
    vector_store_id: "vs",
    own_table: null,
    phase: "shared",
    copied_through: null,
    changed_since: null,
    is_stale: false,
    m: 16,
    ef_construction: 64,
    current_index: null,
    next_index: null,
    rebuild: false,
    keyword_index: true,
    attributes: [],
    attribute_indexes: [],
    due_ms: 0,
    ingest_ms: null,
    id: "vs",
    dimensions: 3,
    embedding_count: "100",
    precision: null,
    language: null,
    index_policy: "auto",
    index_state: "waiting",
    ...change,
  };
}

const year: Attribute = { key: "year", type: "number" };
const ofYear = { name: attributeIndexName("t", year), identifier: "", valid: true, bytes: 8_192 };
const settled: Partial<Plan> = {
  phase: "settled",
  own_table: "t",
  current_index: index,
  index_state: "ready",
};

const steps: [string, Partial<Plan>, ReturnType<typeof nextStep>][] = [
  ["makes a table for a store that is large enough", {}, "create"],
  ["leaves a store alone that is too small", { embedding_count: "99", index_state: "none" }, undefined],
  ["takes back what it said of a store that has become too small", { embedding_count: "99" }, "rest"],
  ["makes a table for a small store on request", { embedding_count: "0", index_policy: "always" }, "create"],
  ["waits for the dimensions", { dimensions: null, index_policy: "always", index_state: "none" }, undefined],
  ["makes no table where it is forbidden", { index_policy: "never", index_state: "none" }, undefined],
  ["waits while rows are loaded", { ingest_ms: 4_999 }, "wait"],
  ["does not wait for an ingest that has stopped moving", { ingest_ms: 5_000 }, "create"],
  ["does not wait for ever", { ingest_ms: 0, due_ms: 60_000 }, "create"],
  [
    "does not wait where a table is asked for, so that rows go into it",
    { ingest_ms: 0, index_policy: "always" },
    "create",
  ],
  ["copies", { phase: "copying" }, "copy"],
  ["goes on with a store that has shrunk meanwhile", { phase: "copying", embedding_count: "0" }, "copy"],
  ["gives up a copy that is forbidden", { phase: "copying", index_policy: "never" }, "withdraw"],
  ["gives up a copy whose transactions are too long ago", { phase: "following", is_stale: true }, "withdraw"],
  ["switches", { phase: "following" }, "switch"],
  [
    "cleans up what it has switched, whatever is wanted",
    { phase: "cleaning", index_policy: "never" },
    "clean",
  ],
  ["names an index", { phase: "settled" }, "design"],
  ["builds it", { phase: "settled", next_index: index }, "build"],
  [
    "designs it anew where something else is asked for",
    { phase: "settled", next_index: index, m: 8 },
    "design",
  ],
  ["puts the build off while rows are loaded", { phase: "settled", next_index: index, ingest_ms: 0 }, "wait"],
  ["drops what it replaces", { phase: "settled", next_index: index, current_index: index }, "replace"],
  ["is done", { phase: "settled", current_index: index, index_state: "ready" }, undefined],
  ["builds anew on request", { phase: "settled", current_index: index, rebuild: true }, "design"],
  [
    "takes an index away that is forbidden",
    { phase: "settled", current_index: index, index_policy: "never" },
    "remove_index",
  ],
  [
    "takes back what was begun when it is forbidden",
    { phase: "settled", next_index: index, index_policy: "never" },
    "remove_index",
  ],
  ["is done without an index", { phase: "settled", index_policy: "never", index_state: "none" }, undefined],
  ["indexes an attribute", { ...settled, attributes: [year] }, "index_attributes"],
  ["waits with it while rows are loaded", { ...settled, attributes: [year], ingest_ms: 0 }, "wait"],
  ["indexes attributes after vectors", { phase: "settled", own_table: "t", attributes: [year] }, "design"],
  ["indexes attributes without a table later", { attributes: [year], index_policy: "never" }, "rest"],
  [
    "indexes attributes where no vector index is wanted",
    { ...settled, current_index: null, attributes: [year], index_policy: "never", index_state: "none" },
    "index_attributes",
  ],
  ["is done with an attribute", { ...settled, attributes: [year], attribute_indexes: [ofYear] }, undefined],
  [
    "drops the index of an attribute that is not declared",
    { ...settled, attribute_indexes: [ofYear] },
    "index_attributes",
  ],
  [
    "builds an attribute's index again that was cut off",
    { ...settled, attributes: [year], attribute_indexes: [{ ...ofYear, valid: false }] },
    "index_attributes",
  ],
  ["drops the table of a store that is gone", { id: null, vector_store_id: null, own_table: "t" }, "drop"],
];

test.each(steps)("%s", (_, change, step) => {
  expect(nextStep(plan(change), options)).toBe(step);
});

test("makes no table by itself when the threshold is 0", () => {
  expect(nextStep(plan({ index_state: "none" }), { ...options, thresholdBytes: 0 })).toBeUndefined();
});
