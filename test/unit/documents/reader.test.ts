import { spawn } from "node:child_process";
import { once } from "node:events";
import { Readable } from "node:stream";
import { text as textOf } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { visitStyles } from "../../../src/documents/office/spreadsheet.ts";
import { afterAll, describe, expect, test } from "vitest";
import {
  createDocumentReader,
  type DocumentReaderOptions,
  type DocumentSource,
} from "../../../src/documents/reader.ts";
import { collect, makeDocx, makeRawDocx, makePdfOf, makeSlowPdf } from "../../support/stores/documents.ts";

const options: DocumentReaderOptions = {
  workers: 2,
  memoryBytes: 512 * 1024 * 1024,
  timeoutMs: 60_000,
  timeoutMsPerMib: 1_000,
  timeoutMsMax: 300_000,
  textBytesMax: 1_000_000_000,
  chunksMax: 1_000_000,
};
const reader = createDocumentReader(options);
afterAll(() => reader.close());

const chunking = { unit: "tokens", sizeMax: 800, overlap: 400 } as const;
const never = new AbortController().signal;

function fileOf(data: Buffer | string, filename = "a.txt"): DocumentSource {
  const bytes = Buffer.from(data);
  return {
    filename,
    bytes: bytes.length,
    async *open() {
      yield bytes;
    },
  };
}

/** A file of the same bytes again and again, and how many of them were taken. */
function repeat(data: Buffer, times: number): { source: DocumentSource; taken: () => number } {
  let taken = 0;
  async function* open() {
    for (let i = 0; i < times; i++) {
      taken += data.length;
      yield data;
    }
  }
  return { source: { filename: "a.txt", bytes: data.length * times, open }, taken: () => taken };
}

async function chunksOf(source: DocumentSource, from = reader): Promise<string[]> {
  return (await collect(from.read(source, chunking, never))).flat().map(({ text }) => text);
}

function failureOf(source: DocumentSource, from = reader): Promise<unknown> {
  return chunksOf(source, from).then(
    () => expect.unreachable(),
    (error: unknown) => error,
  );
}

/** A document whose tags stay open until its end: more than twice what the small reader may hold. */
const deepDocx = makeRawDocx(Array.from({ length: 1_000_000 }, (_, i) => `<w:p${i.toString(36)}x>`).join(""));

const slowPdf = makeSlowPdf();

describe("the chunks of a file", () => {
  const text = Array.from({ length: 20_000 }, (_, i) => `This is sentence ${i}.`).join(" ");

  test("come in batches, in order, the same each time", async () => {
    const batches = await collect(reader.read(fileOf(text), chunking, never));
    expect(batches.length).toBeGreaterThan(2);
    for (const batch of batches) expect(batch.length).toBeLessThanOrEqual(64);
    const texts = batches.flat().map((chunk) => chunk.text);
    const starts = texts.map((chunk) => Number(/\d+/.exec(chunk)?.[0]));
    expect(starts).toEqual(starts.toSorted((a, b) => a - b));
    expect(await chunksOf(fileOf(text))).toEqual(texts);
  });

  test("come from several files at a time", async () => {
    const docx = await makeDocx({ heading: "Title", paragraphs: ["Body"], rows: [["x"]], footnote: "End" });
    const files = Array.from({ length: 6 }, (_, i) => fileOf(i % 2 === 0 ? `Text ${i}.` : docx));
    const read = await Promise.all(files.map((file) => chunksOf(file)));
    expect(read.map((chunks) => chunks.length)).toEqual([1, 1, 1, 1, 1, 1]);
    expect(read[4]).toEqual(["Text 4."]);
    expect(read[5]?.[0]).toContain("Title");
  });

  test("are made no faster than they are taken", async () => {
    const { source, taken } = repeat(Buffer.from(text), 100);
    for await (const batch of reader.read(source, chunking, never)) {
      expect(batch.length).toBeGreaterThan(0);
      await sleep(300);
      break;
    }
    // The part in hand, and what two batches are made of.
    expect(taken()).toBeLessThan(source.bytes / 20);
  });
});

/** A page whose elements stay open until its end, with a word in each. */
function nest(tag: string, levels: number): string {
  return `<html><body>${Array.from({ length: levels }, (_, i) => `<${tag}>word${i} `).join("")}`;
}

describe("a page of nested elements", () => {
  test.each(['a name="x"', "font", "b", "div", "dl><dd"])("is read to its end: %s", async (tag) => {
    const text = (await chunksOf(fileOf(nest(tag, 2_000), "a.html"))).join(" ");
    expect(new Set(text.match(/word\d+/g)).size).toBe(2_000);
  });

  test("is refused where it is too deep to be read to its end", async () => {
    expect(await failureOf(fileOf(nest("b", 50_000), "a.html"))).toMatchObject({
      name: "DocumentError",
      code: "invalid_file",
    });
  });
});

describe("a file that cannot be read", () => {
  test.each([
    ["of another kind", fileOf(Buffer.from("89504e470d0a", "hex")), "unsupported_file", /PNG/],
    ["that is empty", { ...fileOf(""), filename: "a.pdf" }, "invalid_file", /empty/],
    ["whose bytes end early", { ...fileOf("text"), bytes: 100 }, "server_error", /recorded size/],
  ])("%s is refused with a code and a message", async (_, source, code, message) => {
    expect(await failureOf(source)).toMatchObject({
      name: "DocumentError",
      code,
      message: expect.stringMatching(message),
    });
  });

  test("because its source fails says so", async () => {
    const error = new Error("the database is away");
    const source = {
      ...fileOf("text"),
      open: () => Readable.from([Buffer.from("te")]).map(() => Promise.reject(error)),
    };
    expect(await failureOf(source)).toBe(error);
  });
});

describe("a hostile file", () => {
  test.each([
    ["a page of a PDF that expands without end", fileOf(makePdfOf(Buffer.alloc(2 ** 30, " ")), "a.pdf")],
    ["a document of tags that never end", fileOf(deepDocx, "a.docx")],
  ])("does not get more memory than allowed: %s", async (_, source) => {
    const small = createDocumentReader({ ...options, workers: 1, memoryBytes: 256 * 1024 * 1024 });
    const before = process.memoryUsage.rss();
    expect(await failureOf(source, small)).toMatchObject({
      code: "invalid_file",
      message: "The file takes too much memory to read.",
    });
    expect(process.memoryUsage.rss() - before).toBeLessThan(64 * 1024 * 1024);
    expect(await chunksOf(fileOf("The next one is read."), small)).toEqual(["The next one is read."]);
    await small.close();
  });

  test("does not get more time than allowed, and the next one is read", async () => {
    const quick = createDocumentReader({ ...options, workers: 1, timeoutMs: 1_500 });
    expect(await failureOf(fileOf(slowPdf, "a.pdf"), quick)).toMatchObject({
      code: "invalid_file",
      message: "The file takes too long to read.",
    });
    expect(await chunksOf(fileOf("The next one is read."), quick)).toEqual(["The next one is read."]);
    await quick.close();
  });

  test("gets time in proportion to its size", async () => {
    const quick = createDocumentReader({
      ...options,
      workers: 1,
      timeoutMs: 1_000,
      timeoutMsPerMib: 60_000,
    });
    expect(slowPdf.length).toBeLessThan(10_000);
    expect(await failureOf(fileOf(slowPdf, "a.pdf"), quick)).toMatchObject({
      message: "The file takes too long to read.",
    });
    // Each takes several seconds.
    const { source } = repeat(Buffer.from("words and more words. ".repeat(100_000)), 4);
    expect((await chunksOf(source, quick)).length).toBeGreaterThan(1_000);
    await quick.close();
  });

  test("with a format code of five million brackets is no work", () => {
    const startedAt = performance.now();
    const dates: boolean[] = [];
    const visitor = visitStyles(dates);
    visitor.open?.("numFmt", { numFmtId: "200", formatCode: "[".repeat(5_000_000) });
    visitor.open?.("cellXfs", {});
    visitor.open?.("xf", { numFmtId: "200" });
    expect(dates).toEqual([false]);
    // Quadratic, it took hours.
    expect(performance.now() - startedAt).toBeLessThan(10_000);
  });

  test("leaves this process free to do other things", async () => {
    const busy = createDocumentReader({ ...options, workers: 1 });
    const giveUp = new AbortController();
    const read = collect(busy.read(fileOf(slowPdf, "a.pdf"), chunking, giveUp.signal));
    const outcome = read.catch((error: unknown) => error);
    for (let i = 0; i < 100; i++) await sleep(10);
    // Were the file read here, it would have been read, or refused, by now.
    giveUp.abort(new Error("enough"));
    expect(await outcome).toMatchObject({ message: "enough" });
    await busy.close();
  });
});

test("100 MB of text pass with bounded memory", async () => {
  const prose = Array.from(
    { length: 25_000 },
    (_, i) => `The number ${i % 977} is followed by a few words.\n`,
  );
  const { source } = repeat(Buffer.from(prose.join("").slice(0, 1_000_000)), 100);
  const memoryBytes = 400 * 1024 * 1024;
  const small = createDocumentReader({ ...options, workers: 1, memoryBytes, timeoutMs: 300_000 });
  const before = process.memoryUsage.rss();
  let [growth, chars] = [0, 0];
  for await (const batch of small.read(source, { unit: "tokens", sizeMax: 800, overlap: 0 }, never)) {
    for (const chunk of batch) chars += chunk.text.length;
    growth = Math.max(growth, process.memoryUsage.rss() - before);
  }
  expect(chars).toBeGreaterThan(source.bytes * 0.98);
  expect(growth).toBeLessThan(128 * 1024 * 1024);
  await small.close();
}, 300_000);

describe("who gives up", () => {
  const reason = new Error("cancelled");

  test("stops a file that keeps its process busy, at once", async () => {
    const giveUp = new AbortController();
    const read = collect(reader.read(fileOf(slowPdf, "a.pdf"), chunking, giveUp.signal));
    const outcome = read.catch((error: unknown) => error);
    await sleep(1_000);
    giveUp.abort(reason);
    // Not the end of its time, which is what a process that is too busy to be told would come to.
    expect(await outcome).toBe(reason);
  });

  test("while a batch is looked at is told when the next one is asked for", async () => {
    const giveUp = new AbortController();
    const { source } = repeat(Buffer.from("words and more words. ".repeat(10_000)), 100);
    const batches = reader.read(source, chunking, giveUp.signal)[Symbol.asyncIterator]();
    expect((await batches.next()).done).toBe(false);
    giveUp.abort(reason);
    await expect(batches.next().then(() => batches.next())).rejects.toBe(reason);
  });

  test("before the start starts nothing", async () => {
    const read = reader.read(fileOf("text"), chunking, AbortSignal.abort(reason));
    await expect(collect(read)).rejects.toBe(reason);
  });

  test("in the queue leaves it", async () => {
    const one = createDocumentReader({ ...options, workers: 1 });
    const { source } = repeat(Buffer.from("words and more words. ".repeat(10_000)), 100);
    const first = one.read(source, chunking, never)[Symbol.asyncIterator]();
    await first.next();
    const giveUp = new AbortController();
    const second = collect(one.read(fileOf("text"), chunking, giveUp.signal));
    const third = chunksOf(fileOf("third"), one);
    giveUp.abort(reason);
    await expect(second).rejects.toBe(reason);
    await first.return?.();
    expect(await third).toEqual(["third"]);
    await one.close();
  });
});

test("close ends what is under way, and nothing is read after it", async () => {
  const closing = createDocumentReader({ ...options, workers: 1 });
  const { source } = repeat(Buffer.from("words and more words. ".repeat(10_000)), 100);
  const reading = chunksOf(source, closing);
  const waiting = chunksOf(fileOf("text"), closing);
  const ended = { code: "server_error", message: "The service is ending." };
  const outcomes = Promise.all([
    expect(reading).rejects.toMatchObject(ended),
    expect(waiting).rejects.toMatchObject(ended),
  ]);
  await sleep(500);
  await closing.close();
  await outcomes;
  await expect(chunksOf(fileOf("text"), closing)).rejects.toMatchObject(ended);
});

test("a program that has read a file ends by itself", async () => {
  const program = `
    import { createDocumentReader } from "./src/documents/reader.ts";
    const reader = createDocumentReader(${JSON.stringify(options)});
    const source = { filename: "a.txt", bytes: 4, async *open() { yield Buffer.from("text"); } };
    for await (const batch of reader.read(source, ${JSON.stringify(chunking)}, new AbortController().signal)) {
      console.log(batch.map((chunk) => chunk.text).join());
    }`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [output] = await Promise.all([textOf(child.stdout), once(child, "close")]);
  expect(output).toBe("text\n");
  expect(child.exitCode).toBe(0);
});
