// npm install @pgquiver/client && node example.mjs rows.ndjson "a question"
import { open } from "node:fs/promises";
import { connect, load } from "@pgquiver/client";

async function* rows(path) {
  for await (const line of (await open(path)).readLines()) yield JSON.parse(line);
}

const client = connect(); // PGQUIVER_URL, PGQUIVER_API_KEY
const store = await client.store("example").ensure();
const { rowsWritten } = await load(client, "example", rows(process.argv[2]), { mode: "upsert" });
console.log(`${rowsWritten} rows written`);
for (const { score, content } of await store.search({ query: process.argv[3], limit: 3 }))
  console.log(score.toFixed(3), content);
