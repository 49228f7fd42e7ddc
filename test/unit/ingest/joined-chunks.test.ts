import fc from "fast-check";
import { expect, test } from "vitest";
import { joinChunks } from "../../../src/api/texts/joined-chunks.ts";

test("what two chunks have in common stands once in the text", () => {
  const [a, b, c] = ["The first sentence, then ", "what both chunks have in common. ", "And the rest."];
  expect(joinChunks([a + b, b + c])).toBe(a + b + c);
  expect(joinChunks([])).toBe("");
  expect(joinChunks(["one"])).toBe("one");
});

test("chunks that are alike by chance lose nothing", () => {
  expect(joinChunks(["a list: x", "x marks the spot"])).toBe("a list: x\nx marks the spot");
});

test("any text is the same again, cut with an overlap into chunks", () => {
  const words = fc.array(fc.stringMatching(/^[ab]{1,3}$/), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(words, fc.integer({ min: 16, max: 40 }), (list, overlap) => {
      // Numbers make each place of the text unlike every other.
      const text = list.map((word, index) => `${word}${index}`).join(" ");
      const chunks: string[] = [];
      for (let start = 0; start === 0 || start + overlap < text.length; start += 60)
        chunks.push(text.slice(start, start + 60 + overlap));
      expect(joinChunks(chunks)).toBe(text);
    }),
  );
});

test("a megabyte of equal characters is joined in linear time", () => {
  const chunk = "a".repeat(500_000);
  expect(joinChunks([`${chunk}b`, chunk])).toBe(`${chunk}b\n${chunk}`);
  expect(joinChunks([chunk, `${chunk}b`])).toBe(`${chunk}b`);
});
