import fc from "fast-check";
import { countTokens } from "gpt-tokenizer/encoding/cl100k_base";
import { describe, expect, test } from "vitest";
import { Cutter, type Chunking, type DocumentChunk } from "../../../src/documents/cutter.ts";

const RUNS = Number(process.env["PROPERTY_RUNS"] ?? 150);

function cutPlaced(pieces: string[], chunking: Chunking, prefersLines = false): DocumentChunk[] {
  const cutter = new Cutter(chunking, prefersLines);
  return [...pieces.flatMap((piece) => [...cutter.push(piece)]), ...cutter.finish()];
}

function cut(pieces: string[], chunking: Chunking, prefersLines = false): string[] {
  return cutPlaced(pieces, chunking, prefersLines).map(({ text }) => text);
}

function tokensOf(text: string): number {
  return countTokens(text, { disallowedSpecial: new Set() });
}

function sizeOf(text: string, { unit }: Chunking): number {
  return unit === "tokens" ? tokensOf(text) : text.length;
}

/** Where each chunk stands in the text: as late as it can without a gap, should the same words come several times. */
function locate(text: string, chunks: string[]): { start: number; end: number }[] {
  let covered = 0;
  return chunks.map((chunk) => {
    const startMax = text.length - text.slice(covered).trimStart().length;
    const start = text.lastIndexOf(chunk, startMax);
    expect(start, `place of ${JSON.stringify(chunk)}`).toBeGreaterThanOrEqual(0);
    covered = Math.max(covered, start + chunk.length);
    return { start, end: start + chunk.length };
  });
}

/** Texts of all sorts: prose, paragraphs, scripts without spaces, and runs of one character. */
const texts = fc
  .array(
    fc.oneof(
      { weight: 6, arbitrary: fc.lorem({ maxCount: 30 }) },
      { weight: 2, arbitrary: fc.constantFrom("\n\n", "\n", ". ", "! ", "\n\n\n", "  ", "\t", "。", '?" ') },
      { weight: 2, arbitrary: fc.string({ unit: "grapheme", maxLength: 80 }) },
      { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 80 }) },
      { weight: 1, arbitrary: fc.base64String({ maxLength: 400 }) },
      {
        weight: 1,
        arbitrary: fc
          .tuple(fc.constantFrom("a", " ", "\n", "-", "客户", "é", "🚀", "9", "'"), fc.nat(300))
          .map(([unit, times]) => unit.repeat(times)),
      },
    ),
    { maxLength: 60 },
  )
  .map((parts) => parts.join(""));

const chunkings: fc.Arbitrary<Chunking> = fc
  .record({
    unit: fc.constantFrom("tokens" as const, "characters" as const),
    sizeMax: fc.integer({ min: 100, max: 400 }),
    share: fc.double({ min: 0, max: 0.5, noNaN: true }),
  })
  .map(({ unit, sizeMax, share }) => ({ unit, sizeMax, overlap: Math.floor(sizeMax * share) }));

const tinyChunkings: fc.Arbitrary<Chunking> = fc
  .record({ sizeMax: fc.integer({ min: 2, max: 12 }), share: fc.constantFrom(0, 0.3, 0.5) })
  .map(({ sizeMax, share }) => ({ unit: "characters", sizeMax, overlap: Math.floor(sizeMax * share) }));

describe("any text", () => {
  test("is cut into chunks that are not too long, begin and end with a character, and leave out only white space", () => {
    fc.assert(
      fc.property(texts, fc.oneof(chunkings, tinyChunkings), (text, chunking) => {
        const chunks = cut([text], chunking);
        for (const chunk of chunks) {
          expect(sizeOf(chunk, chunking)).toBeLessThanOrEqual(chunking.sizeMax);
          expect(chunk).toBe(chunk.trim());
          expect(chunk).not.toBe("");
        }
        const covered = Math.max(0, ...locate(text, chunks).map(({ end }) => end));
        expect(text.slice(covered).trim()).toBe("");
      }),
      { numRuns: RUNS },
    );
  });

  test("gives the same chunks however it arrives", () => {
    fc.assert(
      fc.property(texts, chunkings, fc.array(fc.nat(200), { minLength: 1 }), (text, chunking, lengths) => {
        const pieces: string[] = [];
        for (let start = 0, i = 0; start < text.length; i++) {
          const length = 1 + (lengths[i % lengths.length] ?? 0);
          pieces.push(text.slice(start, start + length));
          start += length;
        }
        expect(cutPlaced(pieces, chunking)).toEqual(cutPlaced([text], chunking));
      }),
      { numRuns: RUNS },
    );
  });

  test("has each chunk at its place, in code points", () => {
    fc.assert(
      fc.property(texts, fc.oneof(chunkings, tinyChunkings), (text, chunking) => {
        const characters = Array.from(text);
        for (const { text: chunk, place } of cutPlaced([text], chunking))
          expect(characters.slice(place.start, place.end).join("")).toBe(chunk);
      }),
      { numRuns: RUNS },
    );
  });

  test("is never cut inside a character", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), tinyChunkings, (text, chunking) => {
        for (const chunk of cut([text.repeat(5)], chunking)) expect(chunk.isWellFormed()).toBe(true);
      }),
      { numRuns: RUNS },
    );
  });
});

describe("chunks of prose", () => {
  const sentences = Array.from({ length: 400 }, (_, i) => `Sentence number ${i} says something of its own.`);
  const paragraphs = Array.from({ length: 40 }, (_, i) => sentences.slice(i * 10, i * 10 + 10).join(" "));

  test.each([0, 0.1, 0.25, 0.5])("overlap by about %d of their size", (share) => {
    const chunking: Chunking = { unit: "tokens", sizeMax: 400, overlap: 400 * share };
    const text = sentences.join(" ");
    const places = locate(text, cut([text], chunking));
    const overlaps = places
      .slice(1)
      .map(({ start }, i) => tokensOf(text.slice(start, Math.max(start, places[i]?.end ?? 0))));
    expect(places.map(({ start }) => start)).toEqual(
      [...new Set(places.map(({ start }) => start))].toSorted((a, b) => a - b),
    );
    for (const overlap of overlaps) {
      expect(overlap).toBeGreaterThanOrEqual(chunking.overlap * 0.7);
      expect(overlap).toBeLessThanOrEqual(chunking.overlap * 1.3);
    }
  });

  test("are nearly full", () => {
    const chunks = cut([paragraphs.join("\n\n")], { unit: "tokens", sizeMax: 800, overlap: 400 });
    for (const chunk of chunks.slice(0, -1)) expect(tokensOf(chunk)).toBeGreaterThan(600);
  });

  test("begin and end with sentences", () => {
    for (const chunk of cut([sentences.join(" ")], { unit: "tokens", sizeMax: 200, overlap: 50 })) {
      expect(chunk).toMatch(/^Sentence[^]*own\.$/);
    }
  });

  test("end with paragraphs where one ends near the limit", () => {
    const text = paragraphs.join("\n\n");
    for (const chunk of cut([text], { unit: "tokens", sizeMax: 480, overlap: 0 })) {
      expect(paragraphs).toContain(chunk.split("\n\n").at(-1));
    }
  });

  test("know the sentences of scripts without spaces", () => {
    const text = "客户可以在三十天内退回未使用的商品，并获得全额退款。".repeat(50);
    for (const chunk of cut([text], { unit: "characters", sizeMax: 100, overlap: 25 })) {
      expect(chunk).toMatch(/^客户[^]*退款。$/);
    }
  });
});

test("rows stay whole where lines are preferred", () => {
  const rows = Array.from({ length: 300 }, (_, i) => `${i},Mr. Smith from St. Ives,${i * 7}`);
  for (const chunk of cut([rows.join("\n")], { unit: "tokens", sizeMax: 150, overlap: 40 }, true)) {
    for (const row of chunk.split("\n")) expect(rows).toContain(row);
  }
});

test("nothing is repeated at the end that was in a chunk already", () => {
  const text = Array.from({ length: 100 }, (_, i) => `Sentence ${i}.`).join(" ");
  const chunks = cut([text + "\n ".repeat(500)], { unit: "characters", sizeMax: 300, overlap: 150 });
  expect(chunks.filter((chunk) => chunk.endsWith("Sentence 99."))).toHaveLength(1);
});

test("text that looks like a special token is text", () => {
  expect(cut(["a <|endoftext|> b"], { unit: "tokens", sizeMax: 100, overlap: 0 })).toEqual([
    "a <|endoftext|> b",
  ]);
});

test.each([
  ["of one letter", "a"],
  ["of white space", " "],
  ["of line ends", "\n"],
  ["of dashes", "-"],
  ["of ideographs", "客"],
  ["of emoji", "👩‍👩‍👧"],
])(
  "a run %s takes no longer for being long",
  (_, unit) => {
    // As one word the tokenizer would take minutes for it.
    const text = `x${unit.repeat(200_000 / unit.length)}x`;
    const chunks = cut([text], { unit: "tokens", sizeMax: 800, overlap: 400 });
    expect(chunks.at(-1)?.endsWith("x")).toBe(true);
  },
  60_000,
);
