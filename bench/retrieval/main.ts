import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { OpenAI, toFile } from "openai";
import { startReranker } from "../support/reranker.ts";
import { createDatabase, type BenchDatabase } from "../support/database.ts";
import { startReport, type Columns } from "../support/report.ts";
import { startServer } from "../support/server.ts";
import { PARAPHRASES } from "./paraphrases.ts";
import { readPerlfaq, toGroups, toSet, type QuestionSet } from "./perlfaq.ts";
import { readPythonDocs } from "./python-docs.ts";
import { rank, STAND_IN } from "./reranker.ts";

const USAGE = `Measures what searches find: how often the answer to a question comes first, and whether it comes at all.

  PERLFAQ=folder/with/perlfaq1.pod PYTHON_DOCS=folder/with/tutorial node bench/retrieval/main.ts [model ...]
`;

/** Default: both that are built in. */
const MODELS = process.argv.length > 2 ? process.argv.slice(2) : ["lexical", "meaning"];
const CHUNK_TOKENS = [200, 400, 800];
const PARALLEL = 4;
const POLL_MS = 200;
/** Files of a batch. */
const BATCH_FILES = 500;
/** Results asked for: several may be of one answer. */
const RESULTS = 50;
/** Answers that count. */
const ANSWERS = 10;
/** Groups of the filtered set: a filter leaves a twentieth of the rows. */
const GROUPS = 20;

/** The ways to search. */
const WAYS = {
  vector: { ranking_options: { ranker: "none" } },
  keywords: { ranking_options: { ranker: "none", hybrid_search: { embedding_weight: 0, text_weight: 1 } } },
  hybrid: { ranking_options: { ranker: "none", hybrid_search: { embedding_weight: 1, text_weight: 1 } } },
  reranked: { ranking_options: { ranker: STAND_IN } },
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

/** The folder that a variable names; says what to do where there is none. */
function findFolder(variable: string, source: string): string | undefined {
  const folder = process.env[variable];
  if (folder !== undefined && existsSync(folder)) return folder;
  process.stderr.write(
    `${variable} names no folder, so ${source} is left out; bench/README.md says where to get it.\n`,
  );
  return undefined;
}

/** The sets of questions whose texts are here. */
function readSets(): { title: string; set: QuestionSet; chunkings: number[] }[] {
  const paraphrases = PARAPHRASES.map(([question, answer]) => ({ question, answer }));
  const sets = [
    { title: "Questions, and answers in other words", set: toSet(paraphrases), chunkings: [800] },
    {
      title: `The same, each answer in ${GROUPS} groups, filtered by the group, with a vector index`,
      set: toGroups(toSet(paraphrases), GROUPS),
      chunkings: [800],
    },
  ];
  const perlfaq = findFolder("PERLFAQ", "perlfaq");
  if (perlfaq !== undefined)
    sets.push({ title: "Questions of perlfaq", set: readPerlfaq(perlfaq), chunkings: CHUNK_TOKENS });
  const python = findFolder("PYTHON_DOCS", "Python's documentation");
  if (python !== undefined) {
    const { lacking, ...set } = readPythonDocs(python);
    for (const question of lacking) process.stderr.write(`No section answers: ${question}\n`);
    sets.push({ title: "Questions about Python's documentation", set, chunkings: [400] });
  }
  return sets;
}

async function main(): Promise<void> {
  if (MODELS.some((name) => name.startsWith("-"))) {
    process.stderr.write(USAGE);
    process.exit(2);
  }
  await using database = await createDatabase();
  await using reranker = await startReranker(rank);
  const report = startReport("retrieval", database.version);
  for (const { title, set, chunkings } of readSets()) {
    const found: Found[] = [];
    for (const model of MODELS)
      found.push(...(await measureModel(database, { model, rerankUrl: reranker.url }, set, chunkings)));
    const { questions, documents } = set;
    report.add(`${title} (${questions.length} questions, ${documents.length} documents)`, found, columns);
  }
  report.finish();
}

async function measureModel(
  database: BenchDatabase,
  { model, rerankUrl }: { model: string; rerankUrl: string },
  { questions, documents, groups }: QuestionSet,
  chunkings: readonly number[],
): Promise<Found[]> {
  await using server = await startServer(database.url, {
    EMBEDDING__MODEL: model,
    RERANK__BASE_URL: rerankUrl,
    RERANK__MODEL: STAND_IN,
  });
  const client = new OpenAI({ apiKey: server.key, baseURL: `http://${server.address}/v1`, maxRetries: 0 });
  const found: Found[] = [];
  for (const tokens of chunkings) {
    const store = await client.vectorStores.create({});
    const toAttributes = (index: number) => (groups === undefined ? {} : { group: index % groups });
    const files = await attach(client, store.id, documents, { tokens, toAttributes });
    if (groups !== undefined) await buildIndex(client, store.id);
    for (const [way, options] of Object.entries(WAYS)) {
      const ranks = await mapParallel(questions, async ({ question, answer }) => {
        const { data } = await client.vectorStores.search(store.id, {
          query: question,
          max_num_results: RESULTS,
          ...(groups !== undefined && {
            filters: { type: "eq", key: "group", value: answer % groups } as const,
          }),
          ...(options as object),
        });
        const answers = [...new Set(data.map((hit) => hit.file_id))].slice(0, ANSWERS);
        return answers.indexOf(files[answer] as string);
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
  documents: readonly string[],
  { tokens, toAttributes }: { tokens: number; toAttributes: (index: number) => Record<string, number> },
): Promise<string[]> {
  const files = await mapParallel(documents, async (text, index) => {
    const file = await toFile(Buffer.from(text), `answer-${index}.txt`);
    return (await client.files.create({ file, purpose: "assistants" })).id;
  });
  for (let start = 0; start < files.length; start += BATCH_FILES) {
    const some = files.slice(start, start + BATCH_FILES);
    let batch = await client.vectorStores.fileBatches.create(store, {
      files: some.map((file_id, index) => ({
        file_id,
        attributes: toAttributes(start + index),
        chunking_strategy: {
          type: "static",
          static: { max_chunk_size_tokens: tokens, chunk_overlap_tokens: 0 },
        },
      })),
    });
    while (batch.status === "in_progress") {
      await sleep(POLL_MS);
      batch = await client.vectorStores.fileBatches.retrieve(batch.id, { vector_store_id: store });
    }
    if (batch.file_counts.completed !== some.length)
      throw new Error(`Only ${batch.file_counts.completed} of ${some.length} files are completed.`);
  }
  return files;
}

/** Requests a vector index of a store, and waits until searches use it. */
async function buildIndex(client: OpenAI, store: string): Promise<void> {
  const path = `/vector_stores/${store}/index`;
  await client.post(path, { body: { policy: "always" } });
  while (((await client.get(path)) as { state: string }).state !== "ready") await sleep(POLL_MS);
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
