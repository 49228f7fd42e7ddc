import { createApplication } from "./application.ts";
import { readConfig, type Config } from "./config.ts";
import type { Embedder } from "./embedding/embedder.ts";
import { createLexicalEmbedder } from "./embedding/lexical.ts";
import { createOpenAIEmbedder } from "./embedding/openai.ts";
import { migrate } from "./postgres/migrate.ts";
import { openDatabase } from "./postgres/pool.ts";
import { quoteTables } from "./postgres/tables.ts";

/** How long a call waits for a connection of the pool, and a connection for Postgres. */
const CONNECT_TIMEOUT_MS = 10_000;

const SIGNALS = ["SIGTERM", "SIGINT"] as const;

async function main(): Promise<void> {
  // As the first process of a container, one without a handler would ignore the signal.
  const giveUp = () => process.exit(1);
  for (const signal of SIGNALS) process.once(signal, giveUp);
  const config = readConfig(process.env);
  const { names, ...settings } = config.database;
  const database = await openDatabase({
    ...settings,
    tables: quoteTables(names),
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
  });
  const { applied } = await migrate(database).catch((error: unknown) => {
    throw new Error(`Cannot use ${database.description}: ${explain(error)}`, { cause: error });
  });
  const embedder = createEmbedder(config);
  const { server, stop } = await createApplication(database, embedder, config);
  server.log.info(
    `Database: ${database.description}${applied === 0 ? "" : `, ${applied} migrations applied`}`,
  );
  server.log.info(`Embeddings: ${describeEmbedder(config, embedder)}`);
  await server.listen({
    host: config.listen.host,
    port: config.listen.port,
    listenTextResolver: (address) => `Listening on ${address} for gRPC, gRPC-Web, Connect and OpenAI's REST`,
  });
  for (const advice of advise(config)) server.log.warn(advice);

  let isStopping = false;
  const end = async (signal: NodeJS.Signals) => {
    if (isStopping) process.exit(1);
    isStopping = true;
    server.log.info(
      `${signal}: finishing the calls in flight, for at most ${config.shutdownGraceMs / 1000} s`,
    );
    await stop(config.shutdownGraceMs);
    await database.close();
    server.log.info("Stopped");
  };
  for (const signal of SIGNALS) process.off(signal, giveUp).on(signal, () => void end(signal).catch(fail));
}

function createEmbedder(config: Config): Embedder {
  return config.embedding === undefined ? createLexicalEmbedder() : createOpenAIEmbedder(config.embedding);
}

function describeEmbedder(config: Config, embedder: Embedder): string {
  if (config.embedding !== undefined) return `model ${embedder.model} at ${config.embedding.baseUrl}`;
  return `the built-in ${embedder.model}, which matches words, not meaning`;
}

/** What to set for production. */
function advise(config: Config): string[] {
  return [
    ...(config.database.url === undefined
      ? ["For production set DATABASE_URL to a Postgres with pgvector."]
      : []),
    ...(config.embedding === undefined
      ? ["For search by meaning set EMBEDDING__BASE_URL and EMBEDDING__MODEL."]
      : []),
    ...(config.apiKeys.length === 0
      ? ["Without a key the service listens on loopback only: set SERVER_API_KEY to open it."]
      : []),
    ...(config.listen.isRestricted ? ["HOST is ignored until SERVER_API_KEY is set."] : []),
  ];
}

function fail(error: unknown): never {
  process.stderr.write(`${explain(error)}\n`);
  process.exit(1);
}

/** The message of an error. A host with several addresses fails with one error for each and no message of its own. */
function explain(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(explain).join(", ");
  return error instanceof Error ? error.message : String(error);
}

await main().catch(fail);
