import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { text } from "node:stream/consumers";
import { OpenAI, toFile } from "openai";
import PDFDocument from "pdfkit";
import { createDocumentReader } from "../src/documents/reader.ts";
import { createLexicalEmbedder } from "../src/models/lexical.ts";
import { createDatabase } from "./support/database.ts";
import { createRandom, makeTexts } from "./support/random.ts";
import { startReport, type Columns } from "./support/report.ts";
import { startServer, type BenchServer } from "./support/server.ts";

const ROUNDS = 3;
const SMALL_FILES = 1_000;
const PDF_PAGES = 100;
const PDFS = 4;
const TEXT_BYTES = 10 * 1024 * 1024;
const CHUNKING = { unit: "tokens", sizeMax: 800, overlap: 400 } as const;

interface Document {
  filename: string;
  bytes: Buffer<ArrayBuffer>;
}

/** One set of files: times from upload to completed, and memory. */
interface Measure {
  name: string;
  documents: number;
  bytes: number;
  pages: number;
  chunks: number;
  uploadMs: number;
  /** From the request that attaches all files until the last file is completed. */
  processMs: number;
  /** The stages of that work run one at a time in the benchmark's process: extracting chunks, embedding. */
  readMs: number;
  embedMs: number;
  /** Peak growth of the resident memory of the service and its reading processes together. */
  grownMiB: number;
}

async function main(): Promise<void> {
  await using database = await createDatabase();
  await using server = await startServer(database.url);
  const client = new OpenAI({ apiKey: server.key, baseURL: `http://${server.address}/v1`, maxRetries: 0 });
  const report = startReport("files", database.version);
  const random = createRandom(1);
  const words = (count: number) => makeTexts(random, 1, count)[0] ?? "";
  const sets = [
    {
      name: `${SMALL_FILES} texts of 1 KB`,
      pages: 0,
      documents: Array.from({ length: SMALL_FILES }, (_, index) => textFile(`small-${index}`, words(150))),
    },
    { name: "one text of 10 MB", pages: 0, documents: [textFile("large", repeat(words, TEXT_BYTES))] },
    {
      name: `${PDFS} PDFs of ${PDF_PAGES} pages`,
      pages: PDFS * PDF_PAGES,
      documents: await Promise.all(
        Array.from({ length: PDFS }, (_, index) => makePdf(`book-${index}`, words)),
      ),
    },
  ];
  const measures: Measure[] = [];
  for (const set of sets) {
    const rounds: Measure[] = [];
    const stages = await measureStages(set.documents);
    // Round 0 is a warm-up.
    for (let round = 0; round <= ROUNDS; round++)
      rounds.push({
        ...set,
        ...stages,
        ...(await measure(client, server, set.documents)),
        documents: set.documents.length,
      });
    const [median] = rounds
      .slice(1)
      .toSorted((a, b) => a.processMs - b.processMs)
      .slice(Math.floor(ROUNDS / 2));
    measures.push(median as Measure);
  }
  report.add(`From upload to completed, median of ${ROUNDS} rounds`, measures, columns);
  report.finish();
}

const columns: Columns<Measure> = {
  "upload s": ({ uploadMs }) => (uploadMs / 1000).toFixed(2),
  "process s": ({ processMs }) => (processMs / 1000).toFixed(2),
  "files/s": ({ documents, processMs }) => ((documents / processMs) * 1000).toFixed(1),
  "MB/s": ({ bytes, processMs }) => (bytes / 1e3 / processMs).toFixed(2),
  "pages/s": ({ pages, processMs }) => (pages === 0 ? "" : ((pages / processMs) * 1000).toFixed(0)),
  "chunks/s": ({ chunks, processMs }) => ((chunks / processMs) * 1000).toFixed(0),
  "reading alone s": ({ readMs }) => (readMs / 1000).toFixed(2),
  "embedding alone s": ({ embedMs }) => (embedMs / 1000).toFixed(2),
  "grown MiB": ({ grownMiB }) => grownMiB.toFixed(0),
};

async function measure(client: OpenAI, server: BenchServer, documents: readonly Document[]) {
  const { id: storeId } = await client.vectorStores.create({});
  const idleMiB = memoryMiB(server.pid);
  let peakMiB = idleMiB;
  const watch = setInterval(() => (peakMiB = Math.max(peakMiB, memoryMiB(server.pid))), 100);
  const startedAt = performance.now();
  const fileIds: string[] = [];
  const remaining = documents.entries();
  const upload = async () => {
    for (const [index, { bytes, filename }] of remaining) {
      const { id } = await client.files.create({
        file: await toFile(bytes, filename),
        purpose: "assistants",
      });
      fileIds[index] = id;
    }
  };
  await Promise.all(Array.from({ length: 5 }, upload));
  const uploadedAt = performance.now();
  let batch = await client.vectorStores.fileBatches.create(storeId, { file_ids: fileIds });
  while (batch.status === "in_progress") {
    await delay(20);
    batch = await client.vectorStores.fileBatches.retrieve(batch.id, { vector_store_id: storeId });
  }
  const processMs = performance.now() - uploadedAt;
  clearInterval(watch);
  if (batch.file_counts.completed !== documents.length) throw new Error(JSON.stringify(batch.file_counts));
  await client.vectorStores.delete(storeId);
  for (const id of fileIds) await client.files.delete(id);
  return { uploadMs: uploadedAt - startedAt, processMs, grownMiB: peakMiB - idleMiB };
}

/** Measures the stages of the work one after the other, without the service. */
async function measureStages(documents: readonly Document[]) {
  const reader = createDocumentReader({
    workers: 1,
    memoryBytes: 512 * 1024 * 1024,
    timeoutMs: 300_000,
    timeoutMsPerMib: 0,
    timeoutMsMax: 300_000,
    textBytesMax: 2 ** 30,
    chunksMax: 1_000_000,
  });
  const never = new AbortController().signal;
  const texts: string[] = [];
  const read = async ({ bytes, filename }: Document) => {
    const source = {
      filename,
      bytes: bytes.length,
      async *open() {
        yield bytes;
      },
    };
    for await (const chunks of reader.read(source, CHUNKING, never))
      texts.push(...chunks.map(({ text }) => text));
  };
  // Warm-up: the first file starts the reading process.
  await read(documents[0] as Document);
  texts.length = 0;
  const startedAt = performance.now();
  for (const document of documents) await read(document);
  const readAt = performance.now();
  await createLexicalEmbedder().embed(texts, never);
  const embedMs = performance.now() - readAt;
  await reader.close();
  const bytes = documents.reduce((sum, document) => sum + document.bytes.length, 0);
  return { bytes, chunks: texts.length, readMs: readAt - startedAt, embedMs };
}

/** Resident memory of a process and its direct children, in MiB. Linux only. */
function memoryMiB(pid: number): number {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readWords(`/proc/${pid}/task/${task}/children`),
  );
  return [String(pid), ...children].reduce((sum, id) => sum + residentMiB(id), 0);
}

/** VmRSS of proc_pid_status(5) in MiB; 0 for a process that has just exited. */
function residentMiB(pid: string): number {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

function readWords(path: string): string[] {
  try {
    return readFileSync(path, "utf8")
      .split(" ")
      .filter((word) => word.trim() !== "");
  } catch {
    return [];
  }
}

function textFile(name: string, content: string): Document {
  return { filename: `${name}.txt`, bytes: Buffer.from(content) };
}

function repeat(words: (count: number) => string, bytes: number): string {
  const paragraphs: string[] = [];
  for (let length = 0; length < bytes;) {
    const paragraph = words(120);
    paragraphs.push(paragraph);
    length += paragraph.length + 2;
  }
  return paragraphs.join("\n\n");
}

async function makePdf(name: string, words: (count: number) => string): Promise<Document> {
  const pdf = new PDFDocument({ autoFirstPage: false });
  const content = text(pdf.setEncoding("latin1") as NodeJS.ReadableStream);
  for (let page = 0; page < PDF_PAGES; page++) pdf.addPage().fontSize(10).text(words(400));
  pdf.end();
  return { filename: `${name}.pdf`, bytes: Buffer.from(await content, "latin1") };
}

await main();
