import { spawn } from "node:child_process";
import { once } from "node:events";
import { pino } from "pino";
import { createApplication } from "../src/application.ts";
import { readConfig } from "../src/config.ts";
import { createLexicalEmbedder } from "../src/models/lexical.ts";
import { openDatabase } from "../src/postgres/connection/pool.ts";
import { migrate } from "../src/postgres/migrations/migrate.ts";
import { quoteTables } from "../src/postgres/tables.ts";
import { createDatabase } from "./support/database.ts";
import { createRandom, makeVectors } from "./support/random.ts";
import { startReport } from "./support/report.ts";

/**
 * How long JSON batches hold the event loop: the turns of the service's loop, in CPU time, which other processes do not change but
 * Linux counts in steps of 4 ms. The service runs in this process, the client in one of its own.
 */

const ROUNDS = 5;

/** Sends what it reads from stdin to a URL, and ends with 0 when the reply is 200. */
const CLIENT = `
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const headers = { "content-type": "application/json" };
  const reply = await fetch(process.argv[1], { method: "POST", headers, body: Buffer.concat(chunks) });
  const text = await reply.text();
  if (!reply.ok) { console.error(text.slice(0, 500)); process.exitCode = 1; }
`;

interface Turns {
  /** CPU milliseconds of the ten longest turns, the longest first, and of all turns. */
  cpuMs: number[];
  allMs: number;
  /** Milliseconds until the reply. */
  wallMs: number;
}

async function main(): Promise<void> {
  await using created = await createDatabase();
  const database = await openDatabase({
    url: created.url,
    tables: quoteTables({}),
    poolMax: 10,
    connectTimeoutMs: 10_000,
    statementTimeoutMs: 60_000,
  });
  await migrate(database);
  const config = { ...readConfig({}), apiKeys: [] };
  const { server, stop } = await createApplication(
    database,
    createLexicalEmbedder(),
    { ...config, indexes: { ...config.indexes, isWorking: false } },
    pino({ level: "silent" }),
  );
  try {
    const url = await server.listen({ host: "127.0.0.1", port: 0 });
    const report = startReport("turns", created.version);
    const results: { name: string; turns: Turns[] }[] = [];
    for (const [name, bodies] of Object.entries(makeBodies())) {
      const turns: Turns[] = [];
      for (let round = 0; round <= ROUNDS; round++) {
        const { id } = (await (await fetch(`${url}/v1/vector_stores`, { method: "POST" })).json()) as {
          id: string;
        };
        const measured = await send(`${url}/v1/vector_stores/${id}${bodies.path}`, bodies.body);
        // The first warms up.
        if (round > 0) turns.push(measured);
      }
      results.push({ name: `${name}, ${(bodies.body.length / 1e6).toFixed(1)} MB`, turns });
    }
    const each = (value: (turns: Turns) => number) => (result: { turns: Turns[] }) =>
      median(result.turns.map(value)).toFixed(1);
    report.add("medians of 5 rounds", results, {
      "longest turn, CPU ms": each(({ cpuMs }) => cpuMs[0] ?? 0),
      "tenth longest, CPU ms": each(({ cpuMs }) => cpuMs[9] ?? 0),
      "all turns, CPU ms": each(({ allMs }) => allMs),
      "ms until the reply": each(({ wallMs }) => wallMs),
    });
    report.finish();
  } finally {
    await stop(0);
    await database.close();
  }
}

function makeBodies(): Record<string, { path: string; body: Buffer }> {
  const random = createRandom(7);
  const path = "/embeddings/batch";
  const rows = (count: number, dimensions: number, contentChars: number) =>
    makeVectors(random, count, { dimensions, clusters: 50 }).map((embedding, index) => ({
      id: `row-${index}`,
      content: `text ${index} `.padEnd(contentChars, "lorem ipsum "),
      metadata: { topic: `topic ${index % 7}`, year: 2000 + (index % 20) },
      embedding: [...embedding].map((value) => Number(value.toPrecision(8))),
    }));
  const body = (embeddings: unknown[]) => Buffer.from(JSON.stringify({ embeddings }));
  const base64 = (row: { embedding: number[] }) => ({
    ...row,
    embedding: Buffer.from(Float32Array.from(row.embedding).buffer).toString("base64"),
  });
  return {
    "100 rows of 1,536 numbers": { path, body: body(rows(100, 1536, 200)) },
    "1,500 rows of 1,536 numbers": { path, body: body(rows(1_500, 1536, 200)) },
    "10,000 rows of 190 numbers": { path, body: body(rows(10_000, 190, 200)) },
    "3,600 rows of 1,536, base64": { path, body: body(rows(3_600, 1536, 200).map(base64)) },
    "30 rows of 1 MB of text": { path, body: body(rows(30, 1536, 1_000_000)) },
  };
}

/** Sends a body by a process of its own; returns the turns of this process's event loop until the reply. */
async function send(url: string, body: Buffer): Promise<Turns> {
  const client = spawn(process.execPath, ["--input-type=module", "-e", CLIENT, url], {
    stdio: ["pipe", "inherit", "inherit"],
  });
  const exit = once(client, "exit");
  client.stdin.end(body);
  await once(client.stdin, "finish");
  const cpuMs: number[] = [];
  let isOver = false;
  let last = process.threadCpuUsage();
  const turn = () => {
    if (isOver) return;
    const { user, system } = process.threadCpuUsage(last);
    cpuMs.push((user + system) / 1000);
    last = process.threadCpuUsage();
    setImmediate(turn);
  };
  const startedAt = performance.now();
  setImmediate(turn);
  const [code] = (await exit) as [number];
  isOver = true;
  if (code !== 0) throw new Error(`the client ended with ${code}`);
  return {
    cpuMs: cpuMs.toSorted((a, b) => b - a).slice(0, 10),
    allMs: cpuMs.reduce((sum, turn) => sum + turn, 0),
    wallMs: performance.now() - startedAt,
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

await main();
