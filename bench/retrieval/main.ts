import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { OpenAI, toFile } from "openai";
import { createDatabase, type BenchDatabase } from "../support/database.ts";
import { startReport, type Columns } from "../support/report.ts";
import { startServer } from "../support/server.ts";
import { PARAPHRASES } from "./paraphrases.ts";
import { readPerlfaq, type Answered } from "./perlfaq.ts";

const USAGE = `Measures what searches find: how often the answer to a question comes first, and whether it comes at all.

  PERLFAQ=folder/with/perlfaq1.pod node bench/retrieval/main.ts [model ...]
`;

/** Default: both that are built in. */
const MODELS = process.argv.length > 2 ? process.argv.slice(2) : ["lexical", "meaning"];
const CHUNK_TOKENS = [200, 400, 800];
const PARALLEL = 4;
const POLL_MS = 200;
/** Results asked for: several may be of one answer. */
const RESULTS = 50;
/** Answers that count. */
const ANSWERS = 10;

/** The ways to search. */
const WAYS = {
  vector: {},
  keywords: { ranking_options: { hybrid_search: { embedding_weight: 0, text_weight: 1 } } },
  hybrid: { ranking_options: { hybrid_search: { embedding_weight: 1, text_weight: 1 } } },
} as const;

interface Found {
  name: string;
  /** Share of the questions whose answer comes first; and among the first ten. */
  first: number;
  recall: number;
  /** Mean reciprocal rank, and normalised discounted cumulative gain; beyond the tenth answer both are 0. */
  mrr: number;
  ndcg: number;
}

const columns: Columns<Found> = {
  first: ({ first }) => first.toFixed(3),
  "MRR@10": ({ mrr }) => mrr.toFixed(3),
  "nDCG@10": ({ ndcg }) => ndcg.toFixed(3),
  "recall@10": ({ recall }) => recall.toFixed(3),
};

async function main(): Promise<void> {
  const folder = process.env["PERLFAQ"];
  if (folder === undefined || !existsSync(folder)) {
    process.stderr.write(USAGE);
    process.exit(2);
  }
  await using database = await createDatabase();
  const report = startReport("retrieval", database.version);
  const sets = [
    {
      title: `${PARAPHRASES.length} questions, and answers in other words`,
      pairs: PARAPHRASES.map(([question, answer]) => ({ question, answer })),
      chunkings: [800],
    },
    { title: "Questions of perlfaq", pairs: readPerlfaq(folder), chunkings: CHUNK_TOKENS },
  ];
  for (const { title, pairs, chunkings } of sets) {
    const found: Found[] = [];
    for (const model of MODELS) found.push(...(await measureModel(database, model, pairs, chunkings)));
    report.add(`${title} (${pairs.length})`, found, columns);
  }
  report.finish();
}

async function measureModel(
  database: BenchDatabase,
  model: string,
  pairs: readonly Answered[],
  chunkings: readonly number[],
): Promise<Found[]> {
  await using server = await startServer(database.url, { EMBEDDING__MODEL: model });
  const client = new OpenAI({ apiKey: server.key, baseURL: `http://${server.address}/v1`, maxRetries: 0 });
  const found: Found[] = [];
  for (const tokens of chunkings) {
    const store = await client.vectorStores.create({});
    const files = await attach(client, store.id, pairs, tokens);
    for (const [way, options] of Object.entries(WAYS)) {
      const ranks = await mapParallel(pairs, async ({ question }, index) => {
        const { data } = await client.vectorStores.search(store.id, {
          query: question,
          max_num_results: RESULTS,
          ...(options as object),
        });
        const answers = [...new Set(data.map((hit) => hit.file_id))].slice(0, ANSWERS);
        return answers.indexOf(files[index] as string);
      });
      found.push({ name: `${model}, ${way}, chunks of ${tokens} tokens`, ...score(ranks) });
    }
    await client.vectorStores.delete(store.id);
  }
  return found;
}

/** Uploads each answer as a file, and waits until searches find all of them. Returns the files' ids. */
async function attach(
  client: OpenAI,
  store: string,
  pairs: readonly Answered[],
  tokens: number,
): Promise<string[]> {
  const files = await mapParallel(pairs, async ({ answer }, index) => {
    const file = await toFile(Buffer.from(answer), `answer-${index}.txt`);
    return (await client.files.create({ file, purpose: "assistants" })).id;
  });
  let batch = await client.vectorStores.fileBatches.create(store, {
    file_ids: files,
    chunking_strategy: {
      type: "static",
      static: { max_chunk_size_tokens: tokens, chunk_overlap_tokens: 0 },
    },
  });
  while (batch.status === "in_progress") {
    await sleep(POLL_MS);
    batch = await client.vectorStores.fileBatches.retrieve(batch.id, { vector_store_id: store });
  }
  if (batch.file_counts.completed !== files.length)
    throw new Error(`Only ${batch.file_counts.completed} of ${files.length} files are completed.`);
  return files;
}

/** Ranks count from 0; -1: not among the first answers. */
function score(ranks: readonly number[]): Omit<Found, "name"> {
  const mean = (value: (rank: number) => number) =>
    ranks.reduce((sum, rank) => sum + (rank < 0 ? 0 : value(rank)), 0) / ranks.length;
  return {
    first: mean((rank) => (rank === 0 ? 1 : 0)),
    recall: mean(() => 1),
    mrr: mean((rank) => 1 / (rank + 1)),
    ndcg: mean((rank) => 1 / Math.log2(rank + 2)),
  };
}

async function mapParallel<Item, Result>(
  items: readonly Item[],
  work: (item: Item, index: number) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  const remaining = items.entries();
  const run = async () => {
    for (const [index, item] of remaining) results[index] = await work(item, index);
  };
  await Promise.all(Array.from({ length: PARALLEL }, run));
  return results;
}

await main();
