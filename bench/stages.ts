import { seededRandom } from "../scripts/crash/random.ts";
import { connectRest, type RestClient } from "./support/clients.ts";
import { createDatabase, type BenchDatabase } from "./support/database.ts";
import { startReranker } from "./support/reranker.ts";
import { startReport, type Report } from "./support/report.ts";
import { compare } from "./support/rounds.ts";
import { startServer, treeCpuMs } from "./support/server.ts";

/** What the stages around a search add to it, and how many texts the built-in model embeds; or one of both: search, model. */

const ROWS = 4_000;
const WORDS = 60;
const VOCABULARY = 3_000;
const BATCH = 200;
const ROUNDS = 7;
const CALLS = 60;
/** Texts of the model: of 1,500 characters, by so many in a request. */
const TEXT_CHARS = 1_500;
const TEXTS = 16;

const random = seededRandom(5);

/** A text of random words, the first ones of the vocabulary more often. */
function makeText(words: number): string {
  return Array.from({ length: words }, () => `word${Math.floor(VOCABULARY * random.next() ** 3)}x`).join(" ");
}

/** A reranking model that takes no time: the documents keep their order. */
function keepOrder(_query: string, documents: readonly string[]): number[] {
  return documents.map((_, index) => 1 / (index + 1));
}

async function post(client: RestClient, path: string, body: object): Promise<Buffer> {
  return client.post(path, Buffer.from(JSON.stringify(body)));
}

async function measureStages(database: BenchDatabase, report: Report): Promise<void> {
  await using reranker = await startReranker(keepOrder);
  await using server = await startServer(database.url, {
    RERANK__BASE_URL: reranker.url,
    RERANK__MODEL: "instant",
  });
  using client = connectRest(server);
  await post(client, "/v1/vector_stores", { id: "stages" });
  for (let row = 0; row < ROWS; row += BATCH) {
    const embeddings = Array.from({ length: BATCH }, () => ({ content: makeText(WORDS) }));
    await post(client, "/v1/vector_stores/stages/embeddings/batch", { embeddings });
  }
  const queries = Array.from({ length: CALLS }, () => makeText(5));
  const search = (name: string, options: object) => ({
    name,
    call: async (index: number) =>
      post(client, "/v1/vector_stores/stages/search", {
        query: queries[index],
        max_num_results: 10,
        ...options,
      }),
  });
  const none = { ranking_options: { ranker: "none" } };
  const contenders = [
    search("search (10 results)", none),
    search("the same, 40 results", { ...none, max_num_results: 40 }),
    search("diversity 0.3 (MMR, 40 candidates)", { ...none, diversity: 0.3 }),
    search("reranked (40 candidates) by a model that answers at once", {}),
    search("reranked, then diversity 0.3", { diversity: 0.3 }),
  ];
  const plan = { rounds: ROUNDS, calls: CALLS, concurrency: 1, cpuMs: server.cpuMs };
  report.add(
    `Stages of a search by text, ${ROWS} rows in the shared table`,
    await compare(contenders, plan),
    {
      "p50 ms": ({ p50Ms }) => p50Ms.toFixed(2),
      "added ms": ({ addedMs }) => addedMs.toFixed(2),
      "CPU ms of the service": ({ cpuMsPerCall }) => cpuMsPerCall.toFixed(2),
    },
  );
}

async function measureModel(database: BenchDatabase, report: Report): Promise<void> {
  const sentence =
    "The quick heron waits between the reeds until the morning fog has left the shallow water. ";
  const makeLong = (index: number) => `${index} ${sentence.repeat(20)}`.slice(0, TEXT_CHARS);
  const results = [];
  for (const workers of [1, 2]) {
    await using server = await startServer(database.url, {
      EMBEDDING__MODEL: "meaning",
      WORKERS: String(workers),
    });
    using client = connectRest(server);
    const contender = {
      name: `${workers} process${workers > 1 ? "es" : ""}, ${TEXTS} texts a request`,
      call: async (index: number) => {
        const input = Array.from({ length: TEXTS }, (_, text) => makeLong(index * TEXTS + text));
        return post(client, "/v1/embeddings", { model: "pgquiver-meaning-v1", input });
      },
    };
    const cpuMs = () => treeCpuMs(server.pid);
    results.push(...(await compare([contender], { rounds: 3, calls: 2, concurrency: 2, cpuMs })));
  }
  report.add(`The built-in model, texts of ${TEXT_CHARS} characters`, results, {
    "texts/s": ({ callsPerSecond }) => (callsPerSecond * TEXTS).toFixed(1),
    "CPU ms a text": ({ cpuMsPerCall }) => (cpuMsPerCall / TEXTS).toFixed(1),
  });
}

async function main(): Promise<void> {
  await using database = await createDatabase();
  const report = startReport("stages of a search", database.version);
  const [part] = process.argv.slice(2);
  if (part !== "model") await measureStages(database, report);
  if (part !== "search") await measureModel(database, report);
  report.finish();
}

await main();
