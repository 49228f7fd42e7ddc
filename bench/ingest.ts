import { once } from "node:events";
import { readFileSync } from "node:fs";
import { request, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import type pg from "pg";
import { WriteMode } from "../gen/pgquiver/v1/embeddings_pb.ts";

import { CopyEncoder, copyRows } from "../src/postgres/copy.ts";
import { meterCpu, type CpuMeter, type CpuShares } from "./support/cpu-meter.ts";
import { createDatabase } from "./support/database.ts";
import { encodeMessage, sendIngest } from "./support/ingest.ts";
import { createRandom, makeTexts } from "./support/random.ts";
import { startReport, type Columns } from "./support/report.ts";
import { compare, type Contender } from "./support/rounds.ts";
import { startServer, type BenchServer } from "./support/server.ts";
import { createStore, deleteStore } from "./support/store.ts";

const ROUNDS = 5;
const WORDS = 40;
const COLUMNS = ["vector_store_id", "id", "content", "embedding", "metadata", "created_at"];
const STORES = ["store_0", "store_1", "store_2", "store_3"];

/** The rows of one load, encoded for every contender before anything is measured. */
interface Load {
  rows: number;
  /** Segments of binary COPY, 1,000 rows each, by store. */
  segments: Buffer[][][];
  /** Encoded gRPC messages with the batches. */
  messages: { hundreds: Buffer[]; ones: Buffer[] };
  ndjson: Buffer;
}

/** What every contender works with. */
interface Bench {
  server: BenchServer;
  pool: pg.Pool;
  meter: CpuMeter;
}

async function main(): Promise<void> {
  await using database = await createDatabase();
  await using server = await startServer(database.url);
  const report = startReport("ingest", database.version);
  const pool = database.openPool();

  const loads = [
    { dimensions: 1536, rows: 6_000, isFull: true },
    { dimensions: 384, rows: 12_000, isFull: false },
    { dimensions: 3072, rows: 3_000, isFull: false },
  ];
  for (const { dimensions, rows, isFull } of loads) {
    const load = build(rows, dimensions);
    const { hundreds, ones } = load.messages;
    for (const concurrency of isFull ? [1, 2, 4] : [1]) {
      const bench = { server, pool, meter: meterCpu(pool, server) };
      const contenders = [
        floor(bench, load),
        stream(bench, load, "gRPC, 100 rows a message", { messages: hundreds }),
      ];
      if (isFull && concurrency === 1) {
        contenders.push(
          stream(bench, load, "gRPC, 1 row a message", { messages: ones }),
          stream(bench, load, "gRPC, upsert into an empty store", {
            messages: hundreds,
            mode: WriteMode.UPSERT,
          }),
          upload(bench, load),
        );
      }
      const plan = { rounds: ROUNDS, calls: concurrency, concurrency, cpuMs: server.cpuMs };
      report.add(
        `${dimensions} dimensions, streams of ${rows} rows, ${concurrency} at a time`,
        await compare(contenders, plan),
        columns(rows * concurrency, bench.meter),
      );
    }
  }
  const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))?.[1];
  process.stderr.write(`\npeak memory of the server: ${Math.round(Number(peak) / 1024)} MiB\n`);
  report.finish();
}

function columns(rows: number, meter: CpuMeter): Columns {
  const perRow = (name: string, part: keyof CpuShares) =>
    ((meter.median(name)[part] * 1000) / rows).toFixed(0);
  return {
    "rows/s": ({ callsPerSecond, concurrency }) => ((callsPerSecond * rows) / concurrency).toFixed(0),
    "of the floor": ({ ratio }) => ratio.toFixed(2),
    "CPU us a row: client": ({ name }) => perRow(name, "client"),
    service: ({ name }) => perRow(name, "service"),
    Postgres: ({ name }) => perRow(name, "postgres"),
  };
}

/** Encodes the same rows in the form of each contender; deterministic, from a fixed seed. */
function build(rows: number, dimensions: number): Load {
  const random = createRandom(1);
  const texts = makeTexts(random, rows, WORDS);
  const vectors = texts.map(() => Float32Array.from({ length: dimensions }, () => random() - 0.5));
  const metadata = (index: number) => ({ source: "bench", page: index });
  const row = (index: number) => ({
    id: `row-${index}`,
    content: texts[index] as string,
    embedding: Array.from(vectors[index] as Float32Array),
    metadata: metadata(index),
  });
  const messages = (size: number) =>
    Array.from({ length: rows / size }, (_, seq) => {
      const rowsOfBatch = Array.from({ length: size }, (__, index) => row(seq * size + index));
      return encodeMessage({ case: "batch", value: { seq: BigInt(seq + 1), rows: rowsOfBatch } });
    });
  const segments = STORES.map((store) => {
    const encoder = new CopyEncoder();
    const taken: Buffer[][] = [];
    for (const [index, content] of texts.entries()) {
      encoder.startRow(COLUMNS.length);
      encoder.text(store);
      encoder.text(`row-${index}`);
      encoder.text(content);
      encoder.vector(vectors[index] as Float32Array);
      encoder.jsonb(JSON.stringify(metadata(index)));
      encoder.timestamptz(new Date(0));
      if (encoder.rows === 1_000 || index === rows - 1) taken.push(encoder.takeSegment());
    }
    return taken;
  });
  const base64 = (index: number) => Buffer.from((vectors[index] as Float32Array).buffer).toString("base64");
  const lines = texts.map((_, index) => JSON.stringify({ ...row(index), embedding: base64(index) }));
  return {
    rows,
    segments,
    messages: { hundreds: messages(100), ones: messages(1) },
    ndjson: Buffer.from(`${lines.join("\n")}\n`),
  };
}

/**
 * Makes the stores of a round through the API, and deletes them afterwards. The space of deleted rows is freed by
 * VACUUM, so that every round begins with an empty table.
 */
function inNewStores({ server, pool, meter }: Bench, load: Load, name: string) {
  return {
    async prepare() {
      for (const id of STORES) await createStore(server, id);
      await pool.query("vacuum embeddings");
      await pool.query("checkpoint");
      await meter.start();
    },
    async verify(calls: number) {
      await meter.stop(name);
      const { rows } = await pool.query<{ count: string }>("select count(*) from embeddings");
      if (Number(rows[0]?.count) !== calls * load.rows)
        throw new Error(`${rows[0]?.count} rows were stored.`);
      for (const id of STORES) await deleteStore(server, id);
    },
  };
}

/** The floor: pre-encoded rows sent by pg-copy-streams, one transaction per 1,000 rows. */
function floor(bench: Bench, load: Load): Contender {
  const statement = `copy embeddings (${COLUMNS.join(", ")}) from stdin (format binary)`;
  const name = "floor: binary COPY of ready rows";
  return {
    name,
    ...inNewStores(bench, load, name),
    async call(index) {
      const client = await bench.pool.connect();
      try {
        for (const segment of load.segments[index % STORES.length] as Buffer[][]) {
          await client.query("begin");
          await copyRows(client, statement, segment);
          await client.query("commit");
        }
      } finally {
        client.release();
      }
    },
  };
}

/** Ingest over gRPC: pre-encoded messages sent by grpc-js. */
function stream(
  bench: Bench,
  load: Load,
  name: string,
  { messages, mode = WriteMode.INSERT }: { messages: readonly Buffer[]; mode?: WriteMode },
): Contender {
  return {
    name,
    ...inNewStores(bench, load, name),
    async call(index) {
      const vectorStoreId = STORES[index % STORES.length] as string;
      const summary = await sendIngest(bench.server, { vectorStoreId, mode }, messages);
      if (summary.rowsWritten !== BigInt(load.rows))
        throw new Error(`${summary.rowsWritten} rows were written.`);
    },
  };
}

/** NDJSON over HTTP/1.1, vectors in base64. */
function upload(bench: Bench, load: Load): Contender {
  const name = "NDJSON over HTTP, base64 vectors";
  return {
    name,
    ...inNewStores(bench, load, name),
    async call(index) {
      const store = STORES[index % STORES.length] as string;
      const call = request(`http://${bench.server.address}/v1/vector_stores/${store}/embeddings/ingest`, {
        method: "PUT",
        headers: {
          authorization: `Bearer ${bench.server.key}`,
          "content-type": "application/x-ndjson",
          "content-length": load.ndjson.length,
        },
      });
      call.end(load.ndjson);
      const [reply] = (await once(call, "response")) as [IncomingMessage];
      const answer = await text(reply);
      if (reply.statusCode !== 200) throw new Error(answer);
    },
  };
}

await main();
