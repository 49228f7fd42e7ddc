import { expect, test } from "vitest";
import { countCandidates } from "../../../src/search/nearest.ts";

test.each([
  { efSearch: undefined, candidates: 20 },
  { efSearch: 5, candidates: 10 },
  { efSearch: 10, candidates: 10 },
  { efSearch: 16, candidates: 16 },
  { efSearch: 20, candidates: 20 },
  { efSearch: 400, candidates: 20 },
])(
  "ten results of float16 are ranked from $candidates rows at ef_search $efSearch",
  ({ efSearch, candidates }) => {
    expect(countCandidates("float16", 10, efSearch)).toBe(candidates);
  },
);

test("many results are ranked from twice their number, whatever the scan finds at a time", () => {
  expect(countCandidates("float16", 200, 200)).toBe(400);
});

test("only float16 goes by ef_search", () => {
  expect(countCandidates("float32", 10, 16)).toBe(10);
  expect(countCandidates("binary", 10, 16)).toBe(800);
});

test.each([
  { efSearch: undefined, candidates: 20 },
  { efSearch: 16, candidates: 10 },
  { efSearch: 40, candidates: 20 },
])(
  "under a filter, ten results are ranked from $candidates rows at ef_search $efSearch",
  ({ efSearch, candidates }) => {
    expect(countCandidates("float16", 10, efSearch, true)).toBe(candidates);
  },
);
