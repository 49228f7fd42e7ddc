import { once } from "node:events";
import { request } from "node:http";
import { json } from "node:stream/consumers";
import { expect, test } from "vitest";
import { startServer } from "../../support/servers/server.ts";

const ROWS = 1_500;
const DIMENSIONS = 1_000;

/** Some 20 MB, refused for its last row, so that all of it is read and nothing comes to the database. */
function makeBatch(): Buffer {
  const embedding = Array.from({ length: DIMENSIONS }, (_, axis) => Number(Math.sin(axis + 1).toFixed(9)));
  const rows = Array.from({ length: ROWS }, (_, row) => ({
    id: `row-${row}`,
    content: `text ${row}`,
    metadata: { row },
    embedding: row === ROWS - 1 ? [0] : embedding,
  }));
  return Buffer.from(JSON.stringify({ embeddings: rows }));
}

/** CPU milliseconds of each turn of the event loop until `work` resolves: the same however busy the machine is. */
async function measureTurns<T>(work: Promise<T>): Promise<{ result: T; turns: number[] }> {
  const turns: number[] = [];
  let isOver = false;
  let last = process.threadCpuUsage();
  const next = () => {
    if (isOver) return;
    const { user, system } = process.threadCpuUsage(last);
    turns.push((user + system) / 1000);
    last = process.threadCpuUsage();
    setImmediate(next);
  };
  setImmediate(next);
  const result = await work;
  isOver = true;
  return { result, turns };
}

test("a long batch of JSON is read in many turns of the event loop", async () => {
  await using server = await startServer();
  const created = await fetch(`${server.url}/v1/vector_stores`, { method: "POST" });
  const { id } = (await created.json()) as { id: string };
  const body = makeBatch();
  const send = async () => {
    const headers = { "content-type": "application/json", "content-length": body.length };
    const sent = request(`${server.url}/v1/vector_stores/${id}/embeddings/batch`, {
      method: "POST",
      headers,
    });
    sent.end(body);
    const [reply] = (await once(sent, "response")) as [NodeJS.ReadableStream];
    return (await json(reply)) as { error: { param: string } };
  };
  await send();
  const { result, turns } = await measureTurns(send());
  expect(result.error.param).toBe(`embeddings[${ROWS - 1}].embedding`);
  const all = turns.reduce((sum, turn) => sum + turn, 0);
  // Read at once, the body took half of all in one turn; now a turn takes a few milliseconds.
  expect(Math.max(...turns)).toBeLessThan(all / 6);
});
