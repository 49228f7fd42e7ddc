import { createApplication } from "./application.ts";
import { readConfig, type Config } from "./config.ts";
import { openConfigured } from "./postgres/open.ts";
import type { Embedder } from "./models/embedder.ts";
import { createLexicalEmbedder } from "./models/lexical.ts";
import { createOpenAIEmbedder } from "./models/openai.ts";
import { messageOf } from "./errors.ts";
import { hintFor } from "./postgres/errors.ts";
import { createLogger } from "./log/logger.ts";
import { migrate } from "./postgres/migrate.ts";

const SIGNALS = ["SIGTERM", "SIGINT"] as const;

async function main(): Promise<void> {
  // As the first process of a container, one without a handler would ignore the signal.
  const giveUp = () => process.exit(1);
  for (const signal of SIGNALS) process.once(signal, giveUp);
  const config = readConfig(process.env);
  const log = createLogger(config.logLevel);
  const database = await openConfigured(config.database);
  const { applied } = await migrate(database).catch((error: unknown) => {
    const reasons = [messageOf(error), hintFor(error)].filter((reason) => reason !== undefined);
    throw new Error(`Cannot use ${database.description}: ${reasons.join(". ")}`, { cause: error });
  });
  const embedder = createEmbedder(config);
  const { server, stop } = await createApplication(database, embedder, config, log);
  log.info(`Database: ${database.description}${applied === 0 ? "" : `, ${applied} migrations applied`}`);
  database.replicas?.watch(({ description, problem }) => {
    if (problem === undefined) log.info(`Replica: searches use ${description}`);
    else log.warn(`Replica: searches do not use ${description}: it ${problem}`);
  });
  log.info(`Embeddings: ${describeEmbedder(config, embedder)}`);
  await server.listen({
    host: config.listen.host,
    port: config.listen.port,
    listenTextResolver: (address) => `Listening on ${address} for gRPC, gRPC-Web, Connect and OpenAI's REST`,
  });
  for (const advice of advise(config)) log.warn(advice);

  let isStopping = false;
  const end = async (signal: NodeJS.Signals) => {
    if (isStopping) process.exit(1);
    isStopping = true;
    log.info(`${signal}: finishing the calls in flight, for at most ${config.shutdownGraceMs / 1000} s`);
    await stop(config.shutdownGraceMs);
    await database.close();
    log.info("Stopped");
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
  process.stderr.write(`${messageOf(error)}\n`);
  process.exit(1);
}

await main().catch(fail);
