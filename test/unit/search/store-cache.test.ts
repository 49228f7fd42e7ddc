import { expect, test } from "vitest";
import { StoreCache } from "../../../src/search/store-cache.ts";
import type { SearchedStore } from "../../../src/storage/stores.ts";

const store = (id: string, dimensions = 1): SearchedStore => ({
  id,
  dimensions,
  embedding_model: null,
  language: null,
  own_table: null,
  has_words: true,
  index_precision: null,
  ef_search: null,
  filtered_ef_search: null,
  restricts_readers: false,
});

test("remembers stores as they were last added", () => {
  const stores = new StoreCache(10);
  expect(stores.get("a")).toBeUndefined();
  stores.add(store("a"));
  stores.add(store("a", 2));
  expect(stores.get("a")).toEqual(store("a", 2));
  stores.delete("a");
  expect(stores.get("a")).toBeUndefined();
});

test("keeps of a row no more than it needs", () => {
  const stores = new StoreCache(10);
  const row = { ...store("a"), name: "a long name" };
  stores.add(row);
  expect(stores.get("a")).toEqual(store("a"));
});

test("forgets the store added longest ago", () => {
  const stores = new StoreCache(2);
  for (const id of ["a", "b", "a", "c"]) stores.add(store(id));
  expect(["a", "b", "c"].filter((id) => stores.get(id) !== undefined)).toEqual(["a", "c"]);
});
