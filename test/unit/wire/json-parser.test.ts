import { expect, test } from "vitest";
import { parseJson } from "../../../src/wire/rest/json-parser.ts";
import { countTurns } from "../../support/servers/turns.ts";
import { createRandom } from "../../../bench/support/random.ts";

/** Longer than a part, 64 KiB. */
const LONG = 100_000;

const samples: Record<string, string> = {
  "a list of numbers": JSON.stringify(Array.from({ length: LONG }, (_, n) => n / 7)),
  "rows with vectors": JSON.stringify({
    embeddings: Array.from({ length: 60 }, (_, n) => ({
      id: `row ${n}`,
      content: 'a "text" with \\ and é😀\n'.repeat(10),
      embedding: Array.from({ length: 600 }, (_, axis) => Math.sin(n + axis)),
      metadata: { nested: [[1, [2, {}]], [], { a: null }], n, is: n % 2 === 0 },
    })),
    mode: "upsert",
  }),
  "a text": JSON.stringify({ content: 'é😀\\"\n'.repeat(LONG), after: 1 }),
  "a number between long texts": JSON.stringify([`${"a".repeat(LONG)}\\`, 1, "b".repeat(LONG)]),
  "white space": JSON.stringify(
    { "a b": Array.from({ length: LONG / 10 }, (_, n) => [n, { n }]), e: [], o: {} },
    null,
    "\t\n ",
  ),
  "a long object": JSON.stringify(
    Object.fromEntries(Array.from({ length: LONG / 10 }, (_, n) => [`key ${n}`, n])),
  ),
  "a long list in a list, empty ones beside": `[[],{},[[${"1,".repeat(LONG)}1]],[ ],{ }]`,
  "the same key twice": `{"a":1,"b":"${"b".repeat(LONG)}","a":[2,"${"a".repeat(LONG)}"]}`,
  "a key __proto__": `{"__proto__":["${"b".repeat(LONG)}"],"c":{"__proto__":1}}`,
};

test.each(Object.entries(samples))("%s is parsed as by JSON.parse", async (_name, text) => {
  const parsed = await parseJson(Buffer.from(text));
  expect(JSON.stringify(parsed)).toBe(JSON.stringify(JSON.parse(text)));
  expect(Object.getPrototypeOf(parsed)).toBe(Object.getPrototypeOf(JSON.parse(text)));
});

test("text that is no JSON is refused where JSON.parse refuses it", async () => {
  const random = createRandom(11);
  const pick = <T>(from: ArrayLike<T>) => from[Math.floor(random() * from.length)] as T;
  let refused = 0;
  for (let trial = 0; trial < 150; trial++) {
    const text = pick(Object.values(samples));
    const at = Math.floor(random() ** 2 * text.length);
    const insert = random() < 0.7 ? pick('[]{},:"\\ 1x\n') : "";
    const changed = (text.slice(0, at) + insert + text.slice(at + (random() < 0.5 ? 1 : 0))).toWellFormed();
    const expected = attempt(() => JSON.parse(changed) as unknown);
    const parsed = parseJson(Buffer.from(changed));
    if (expected === undefined) {
      refused++;
      await expect(parsed).rejects.toBeInstanceOf(SyntaxError);
    } else expect(JSON.stringify(await parsed) === JSON.stringify(expected.value)).toBe(true);
  }
  expect(refused).toBeGreaterThan(40);
});

function attempt(parse: () => unknown): { value: unknown } | undefined {
  try {
    return { value: parse() };
  } catch {
    return undefined;
  }
}

test.each([
  ["behind the end", `[${"1,".repeat(LONG)}1]]`],
  ["behind a comma", `[${"1,".repeat(LONG)}]`],
  ["before the end", `[${"1,".repeat(LONG)}1`],
  ["in a text", `["${"a".repeat(LONG)}\n"]`],
  ["an empty body", " ".repeat(LONG)],
])("faults %s are found", async (_where, text) => {
  await expect(parseJson(Buffer.from(text))).rejects.toBeInstanceOf(SyntaxError);
});

test("what is nested too deeply to be taken apart is refused", async () => {
  const text = `${"[".repeat(200)}"${"a".repeat(LONG)}"${"]".repeat(200)}`;
  await expect(parseJson(Buffer.from(text))).rejects.toThrow("nested deeper than 100 levels");
  const short = `[${"[".repeat(5_000)}${"]".repeat(5_000)},"${"a".repeat(LONG)}"]`;
  await expect(parseJson(Buffer.from(short))).resolves.toBeDefined();
});

test("the event loop turns meanwhile", async () => {
  const text = Buffer.from(`[${samples["rows with vectors"]},`.repeat(40) + `1${"]".repeat(40)}`);
  // Each turn has a slice of a millisecond and at most a part: 64 KiB, of some 30 MB.
  expect(await countTurns(parseJson(text))).toBeGreaterThan(20);
});
