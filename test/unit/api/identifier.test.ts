import { describe, expect, test } from "vitest";
import { reasonOf } from "../../../src/errors.ts";
import { checkIdentifier, makeIdentifier, timeOfIdentifier } from "../../../src/api/identifier.ts";

describe("an id that is made", () => {
  test("is the prefix and a UUID of version 7", () => {
    expect(makeIdentifier("vs").id).toMatch(/^vs_[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
    expect(makeIdentifier("emb").id).toMatch(/^emb_/);
    expect(makeIdentifier("file").id).toMatch(/^file-[0-9a-f]{32}$/);
  });

  test("tells the time it was made", () => {
    const before = Date.now();
    const { id, createdAt } = makeIdentifier("vs");
    expect(timeOfIdentifier(id)).toEqual(createdAt);
    const file = makeIdentifier("file");
    expect(timeOfIdentifier(file.id)).toEqual(file.createdAt);
    expect(createdAt.getTime()).toBeGreaterThanOrEqual(before);
  });

  test("sorts after those made before, also within a millisecond and beyond what one can count", () => {
    const ids = Array.from({ length: 20_000 }, () => makeIdentifier("emb").id);
    expect(ids.toSorted()).toEqual(ids);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("passes the check of ids chosen by callers", () => {
    expect(() => checkIdentifier(makeIdentifier("vs").id, "id")).not.toThrow();
  });
});

test.each([
  "vs_1",
  "",
  "0198c1f0-8a5e-7000-8000-000000000000",
  "file_01a20677083c7000ba72781a119c6b8e",
  "vs_01a20677083c4000ba72781a119c6b8e",
  "vs_01a20677083c7000ba72781a119c6b8e0",
])("the id %j tells no time", (id) => {
  expect(timeOfIdentifier(id)).toBeUndefined();
});

test.each([
  "a",
  "vs_1",
  "A.b:c-D_9",
  "...",
  ".a",
  "a..",
  "0198c1f0-8a5e-7000-8000-000000000000",
  "x".repeat(128),
])("a caller may choose %j", (id) => {
  expect(() => checkIdentifier(id, "id")).not.toThrow();
});

test.each(["", ".", "..", " ", "a b", "a/b", "a%2Fb", "é", "🐘", "a\n", "\0", "x".repeat(129)])(
  "a caller may not choose %j",
  (id) => {
    const choose = () => checkIdentifier(id, "embeddings[3].id");
    expect(choose).toThrow(
      "Invalid 'embeddings[3].id': expected 1 to 128 of the characters A-Z a-z 0-9 _ . : -, but not '.' or '..'.",
    );
    try {
      choose();
    } catch (error) {
      expect(reasonOf(error)).toBe("INVALID_VALUE");
    }
  },
);
