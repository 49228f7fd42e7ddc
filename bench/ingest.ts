import { once } from "node:events";
import { readFileSync } from "node:fs";
import { request, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import pg from "pg";
import { WriteMode } from "../gen/pgquiver/v1/ingest_pb.ts";

import { CopyEncoder, copyRows } from "../src/postgres/copy.ts";
import { createDatabase, execute } from "./support/database.ts";
import { encodeMessage, sendIngest } from "./support/ingest.ts";
import { createRandom, makeTexts } from "./support/random.ts";
import { startReport, type Columns } from "./support/report.ts";
import { compare, type Contender, type Result } from "./support/rounds.ts";
import { startServer, type BenchServer } from "./support/server.ts";

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

async function main(): Promise<void> {
  await using database = await createDatabase();
  await using server = await startServer(database.url);
  const report = startReport("ingest", database.version);
  const pool = new pg.Pool({ connectionString: database.url, max: 4 });
  for (const id of STORES) await execute(database.url, `insert into vector_stores (id) values ('${id}')`);

  const loads = [
    { dimensions: 1536, rows: 6_000, isFull: true },
    { dimensions: 384, rows: 12_000, isFull: false },
    { dimensions: 3072, rows: 3_000, isFull: false },
  ];
  for (const { dimensions, rows, isFull } of loads) {
    const load = build(rows, dimensions);
    const contenders = [
      floor(pool, load),
      stream(server, pool, load, "gRPC, 100 rows a message", { messages: load.messages.hundreds }),
      ...(isFull
        ? [
            stream(server, pool, load, "gRPC, 1 row a message", { messages: load.messages.ones }),
            stream(server, pool, load, "gRPC, upsert into an empty store", {
              messages: load.messages.hundreds,
              mode: WriteMode.UPSERT,
            }),
            upload(server, pool, load),
          ]
        : []),
    ];
    const plan = { rounds: ROUNDS, calls: 1, concurrency: 1, cpuMs: server.cpuMs };
    report.add(
      `${dimensions} dimensions, ${rows} rows, one stream`,
      await compare(contenders, plan),
      columns(rows),
    );
    if (!isFull) continue;
    for (const concurrency of [2, 4]) {
      const pair = [
        floor(pool, load),
        stream(server, pool, load, "gRPC, 100 rows a message", { messages: load.messages.hundreds }),
      ];
      const results = await compare(pair, {
        rounds: ROUNDS,
        calls: concurrency,
        concurrency,
        cpuMs: server.cpuMs,
      });
      report.add(`${dimensions} dimensions, ${concurrency} streams of ${rows} rows`, results, columns(rows));
    }
  }
  const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))?.[1];
  process.stderr.write(`\npeak memory of the server: ${Math.round(Number(peak) / 1024)} MiB\n`);
  report.finish();
  await pool.end();
}

function columns(rows: number): Columns {
  const perTenThousand = ({ cpuMsPerCall }: Result) => (cpuMsPerCall / rows) * 10;
  return {
    "rows/s": ({ callsPerSecond }) => (callsPerSecond * rows).toFixed(0),
    "of the floor": ({ ratio }) => ratio.toFixed(2),
    "server CPU s per 10,000 rows": (result) => perTenThousand(result).toFixed(2),
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

function emptyFirst(pool: pg.Pool): () => Promise<void> {
  return async () => {
    await pool.query("truncate embeddings");
    await pool.query(`update vector_stores set usage_bytes = 0, dimensions = null, file_counts = default`);
    await pool.query("checkpoint");
  };
}

function countAfter(pool: pg.Pool, load: Load): (calls: number) => Promise<void> {
  return async (calls) => {
    const { rows } = await pool.query<{ count: string }>("select count(*) from embeddings");
    if (Number(rows[0]?.count) !== calls * load.rows) throw new Error(`${rows[0]?.count} rows were stored.`);
  };
}

/** The floor: pre-encoded rows sent by pg-copy-streams, one transaction per 1,000 rows. */
function floor(pool: pg.Pool, load: Load): Contender {
  const statement = `copy embeddings (${COLUMNS.join(", ")}) from stdin (format binary)`;
  return {
    name: "floor: binary COPY of ready rows",
    prepare: emptyFirst(pool),
    async call(index) {
      const client = await pool.connect();
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
    verify: countAfter(pool, load),
  };
}

/** Ingest over gRPC: pre-encoded messages sent by grpc-js. */
function stream(
  server: BenchServer,
  pool: pg.Pool,
  load: Load,
  name: string,
  { messages, mode = WriteMode.INSERT }: { messages: readonly Buffer[]; mode?: WriteMode },
): Contender {
  return {
    name,
    prepare: emptyFirst(pool),
    async call(index) {
      const vectorStoreId = STORES[index % STORES.length] as string;
      const summary = await sendIngest(server, { vectorStoreId, mode }, messages);
      if (summary.rowsWritten !== BigInt(load.rows))
        throw new Error(`${summary.rowsWritten} rows were written.`);
    },
    verify: countAfter(pool, load),
  };
}

/** NDJSON over HTTP/1.1, vectors in base64. */
function upload(server: BenchServer, pool: pg.Pool, load: Load): Contender {
  return {
    name: "NDJSON over HTTP, base64 vectors",
    prepare: emptyFirst(pool),
    async call(index) {
      const store = STORES[index % STORES.length] as string;
      const call = request(`http://${server.address}/v1/vector_stores/${store}/embeddings/ingest`, {
        method: "PUT",
        headers: {
          authorization: `Bearer ${server.key}`,
          "content-type": "application/x-ndjson",
          "content-length": load.ndjson.length,
        },
      });
      call.end(load.ndjson);
      const [reply] = (await once(call, "response")) as [IncomingMessage];
      const answer = await text(reply);
      if (reply.statusCode !== 200) throw new Error(answer);
    },
    verify: countAfter(pool, load),
  };
}

await main();
