import { expect, test } from "vitest";
import type { Embedder } from "../../../src/models/embedder.ts";
import { cacheQueries } from "../../../src/models/query-cache.ts";

const never = new AbortController().signal;

/** Bytes of an entry whose text has one character. */
const ENTRY = 2 + 4 + 200;

function start(bytesMax: number) {
  const asked: string[] = [];
  const lookups: boolean[] = [];
  const make = (model: string): Embedder => ({
    model,
    dimensions: 1,
    async embed(texts) {
      asked.push(...texts);
      return { vectors: texts.map((text) => Float32Array.of(text.charCodeAt(0))), tokens: texts.length };
    },
  });
  const embedder = { ...make("new"), former: make("old") };
  const cache = cacheQueries(embedder, bytesMax, (isHit) => lookups.push(isHit));
  const embed = async (text: string, by: Embedder = cache) => {
    const { vectors, tokens } = await by.embed(text.split(""), never);
    return { text: String.fromCharCode(...vectors.map((vector) => vector[0] as number)), tokens };
  };
  return { asked, lookups, cache, embed };
}

test("only texts without a vector are embedded, and each gets its own", async () => {
  const { asked, lookups, embed } = start(10 * ENTRY);
  expect(await embed("ab")).toEqual({ text: "ab", tokens: 2 });
  expect(await embed("cbaa")).toEqual({ text: "cbaa", tokens: 1 });
  expect(asked).toEqual(["a", "b", "c"]);
  expect(lookups).toEqual([false, false, false, true, true, true]);
});

test("the text that was not used for the longest makes room", async () => {
  const { asked, embed } = start(2 * ENTRY);
  for (const text of ["a", "b", "a", "c", "a", "b"]) await embed(text);
  expect(asked.join("")).toBe("abcb");
});

test("what takes more than all there is, is not kept", async () => {
  const { asked, embed } = start(ENTRY - 1);
  await embed("a");
  await embed("a");
  expect(asked.join("")).toBe("aa");
});

test("two models do not share vectors", async () => {
  const { asked, cache, embed } = start(10 * ENTRY);
  await embed("a");
  await embed("a", cache.former);
  expect(asked.join("")).toBe("aa");
});

test("a text that is to be forgotten is embedded anew, and leaves its room", async () => {
  const { asked, cache, embed } = start(2 * ENTRY);
  await embed("ab");
  cache.forget?.(["a", "x"]);
  await embed("cb");
  await embed("a");
  expect(asked.join("")).toBe("abca");
});

test("without room there is no cache", () => {
  const embedder = start(1).cache;
  expect(cacheQueries(embedder, 0, () => {})).toBe(embedder);
});
