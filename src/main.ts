import type { FastifyInstance } from "fastify";
import { createApplication } from "./application.ts";
import { describeStart } from "./banner.ts";
import { readConfig, readLogConfig, type Config } from "./config.ts";
import { messageOf } from "./errors.ts";
import { createLogger } from "./log/logger.ts";
import { findMisspelled } from "./misspelled.ts";
import type { Embedder } from "./models/embedder.ts";
import { createLexicalEmbedder } from "./models/lexical.ts";
import { createOpenAIEmbedder } from "./models/openai.ts";
import { findSilence, withoutSecrets } from "./models/reach.ts";
import { migrate } from "./postgres/migrations/migrate.ts";
import { openConfigured } from "./postgres/connection/open.ts";
import { untilReached } from "./postgres/connection/reach.ts";
import { findRemedy } from "./postgres/remedy.ts";
import { onSignal } from "./signals.ts";

const log = createLogger(readLogConfig(process.env));

/** How long closing the database may take, and everything after the grace, before the process ends anyway. */
const CLOSE_MS = 1_000;
const STOP_MARGIN_MS = 4_000;
/** How long the process may take to end by itself once all has stopped. */
const LINGER_MS = 1_000;

/** Aborts at the first SIGTERM or SIGINT. */
const stopping = new AbortController();
/**
 * Graceful shutdown: drains the server and closes the database. Undefined until the service is built: before
 * that the process can simply exit.
 */
let stop: ((signal: NodeJS.Signals) => Promise<void>) | undefined;

async function main(): Promise<void> {
  for (const { name, meant } of findMisspelled(process.env))
    log.warn(`The variable ${name} is not read: did you mean ${meant}?`);
  const config = readConfig(process.env);
  const report = (message: string) => log.info(message);
  const database = await openConfigured(config.database, report);
  const warn = (message: string) => log.warn(message);
  const start = () => migrate(database, report);
  await untilReached(database, config.databaseWaitMs, start, warn).catch((error: unknown) => {
    const remedy = findRemedy(error);
    const message = `Cannot use ${database.description}: ${messageOf(error)}`;
    throw new Error(remedy === undefined ? message : `${message}. ${remedy}`, { cause: error });
  });
  const embedder = createEmbedder(config);
  const application = await createApplication(database, embedder, config, log);
  stop = async (signal) => {
    const { delayMs, graceMs } = config.shutdown;
    log.info(`${signal}: finishing the calls in flight, for at most ${(delayMs + graceMs) / 1000} s`);
    // Whatever hangs, a process that was told to end must end.
    setTimeout(
      exit,
      delayMs + graceMs + STOP_MARGIN_MS,
      "Ending although not everything has stopped",
    ).unref();
    await application.stop(graceMs, delayMs);
    await database.close(CLOSE_MS);
  };
  database.replicas?.watch(({ description, problem }) => {
    if (problem === undefined) log.info(`Replica: searches use ${description}`);
    else log.warn(`Replica: searches do not use ${description}: it ${problem}`);
  });
  const address = await listen(application.server, config);
  log.info({ table: describeStart({ address, database, embedder, config }) }, "Ready");
  for (const advice of advise(config)) log.warn(advice);
  if (config.embedding !== undefined) void checkProvider(config.embedding.baseUrl);
}

function createEmbedder(config: Config): Embedder {
  return config.embedding === undefined ? createLexicalEmbedder() : createOpenAIEmbedder(config.embedding);
}

/** Starts listening. Returns the address as a URL, or the first of several. */
async function listen(server: FastifyInstance, { listen: { host, port, tls } }: Config): Promise<string> {
  // Fastify names the address http: even if the server from `serverFactory` uses TLS.
  const name = (address: string) => (tls === undefined ? address : address.replace(/^http:/, "https:"));
  const listenTextResolver = (address: string) =>
    `Listening on ${name(address)} for gRPC, gRPC-Web, Connect and OpenAI's REST`;
  try {
    return name(await server.listen({ host, port, listenTextResolver }));
  } catch (error) {
    throw new Error(`Cannot listen on HOST ${host}, PORT ${port}: ${messageOf(error)}`, { cause: error });
  }
}

/** Minimum length of an API key without a warning: 16 random hexadecimal digits have 64 bits of entropy. */
const KEY_CHARS_MIN = 16;

/** Warnings about settings that are not fit for production. */
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
    ...(config.apiKeys.some((key) => key.length < KEY_CHARS_MIN)
      ? [`SERVER_API_KEY: a key of fewer than ${KEY_CHARS_MIN} characters can be guessed.`]
      : []),
    ...(config.listen.isRestricted ? ["HOST is ignored until SERVER_API_KEY is set."] : []),
  ];
}

/**
 * Logs a warning when the embedding provider does not answer. Runs in the background: the start does not
 * wait.
 */
async function checkProvider(baseUrl: string): Promise<void> {
  const fault = await findSilence(baseUrl, stopping.signal);
  if (fault === undefined || stopping.signal.aborted) return;
  log.warn(
    `EMBEDDING__BASE_URL: ${withoutSecrets(baseUrl)} does not answer (${fault}). Texts cannot be embedded until it does.`,
  );
}

async function end(signal: NodeJS.Signals): Promise<void> {
  if (stopping.signal.aborted) process.exit(1);
  stopping.abort();
  if (stop === undefined) {
    log.info(`${signal} during the start: ending`);
    process.exit(0);
  }
  await stop(signal);
  log.info("Stopped");
  setTimeout(exit, LINGER_MS, "Ending although a connection or a timer is left").unref();
}

/** Ends the process in spite of what is left. */
function exit(reason: string): never {
  log.warn(reason);
  process.exit(0);
}

/** Ends the process with exit code 1, and the reason as the last line of the log in every format. */
function fail(error: unknown): never {
  const message = messageOf(error);
  log.fatal(message);
  log.debug({ err: error }, "The stack of the fatal error");
  if (!log.isLevelEnabled("fatal")) process.stderr.write(`${message}\n`);
  process.exit(1);
}

onSignal((signal) => void end(signal).catch(fail));
process.on("uncaughtException", (error) => {
  log.error({ err: error }, "Uncaught exception or unhandled rejection");
  fail(error);
});
await main().catch((error: unknown) => {
  // A signal during the start makes the start fail: that error is expected.
  if (!stopping.signal.aborted) fail(error);
});
