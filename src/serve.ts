import type { FastifyInstance } from "fastify";
import type { Logger } from "pino";
import { createApplication } from "./application.ts";
import { describeStart } from "./banner.ts";
import type { Config } from "./config.ts";
import { messageOf } from "./errors.ts";
import { isBuiltIn, withFormer, type Embedder } from "./models/embedder.ts";
import { createLexicalEmbedder } from "./models/lexical.ts";
import { createMeaningEmbedder } from "./models/meaning.ts";
import { createOnnxEmbedder } from "./models/onnx.ts";
import { createOpenAIEmbedder } from "./models/openai.ts";
import type { Telemetry } from "./monitoring/otel/start.ts";
import { prepareCitus } from "./postgres/citus/cluster.ts";
import { migrate } from "./postgres/migrations/migrate.ts";
import { openConfigured } from "./postgres/connection/open.ts";
import { untilReached } from "./postgres/connection/reach.ts";
import { findRemedy } from "./postgres/remedy.ts";
import type { Report } from "./workers/messages.ts";
import type { Link } from "./workers/link.ts";
import { shareOut } from "./workers/share.ts";
import type { MetricValues } from "./wire/metrics.ts";

/** How long closing the database may take. */
const CLOSE_MS = 1_000;
/** How long the last spans and metrics may take to be sent. */
const FLUSH_MS = 1_000;

/** The service of this process, built but not listening. */
export interface Service {
  /** Starts listening. Returns what the start is to be reported with. */
  listen: () => Promise<Report>;
  /** Drains the server, first for `delayMs` with the port open, and closes the database. */
  stop: (graceMs: number, delayMs: number) => Promise<void>;
  /** The same while another worker has taken over: no connection and no request is refused. */
  retire: (graceMs: number) => Promise<void>;
  collectMetrics: () => Promise<MetricValues>;
}

/** Opens the database, prepares its tables, and builds the service: the whole of it, or the share of a worker. */
export async function buildService(config: Config, log: Logger, link: Link | undefined): Promise<Service> {
  // Before the service, whose RPCs are wrapped with spans only where tracing is on.
  const telemetry = await openTelemetry(config, log, link?.number);
  const share = shareOut(config, link?.number ?? 1);
  // Before the database, which a directory without a model need not wait for.
  const embedder = createEmbedders(share);
  const report = (message: string) => log.info(message);
  const database = await openConfigured(share.database, report);
  const warn = (message: string) => log.warn(message);
  const start = async () => {
    await migrate(database, report);
    database.citus = await prepareCitus(database, config.citus, config.indexes);
  };
  await untilReached(database, config.databaseWaitMs, start, warn).catch((error: unknown) => {
    const remedy = findRemedy(error);
    const message = `Cannot use ${database.description}: ${messageOf(error)}`;
    throw new Error(remedy === undefined ? message : `${message}. ${remedy}`, { cause: error });
  });
  const application = await createApplication(database, embedder, share, log, link?.readWhole);
  telemetry?.sendMetrics(application.collectMetrics);
  const close = () => Promise.all([database.close(CLOSE_MS), telemetry?.stop(FLUSH_MS)]);
  database.replicas?.watch(({ description, problem }) => {
    if (problem === undefined) log.info(`Replica: searches use ${description}`);
    else log.warn(`Replica: searches do not use ${description}: it ${problem}`);
  });
  return {
    async listen() {
      const address = await listen(application.server, config);
      return {
        table: describeStart({ address, database, embedder, config }),
        advice: advise(config, embedder.model, application.hasKeys),
      };
    },
    async stop(graceMs, delayMs) {
      await application.stop(graceMs, delayMs);
      await close();
    },
    async retire(graceMs) {
      await application.retire(graceMs);
      await close();
    },
    collectMetrics: application.collectMetrics,
  };
}

/** Starts OpenTelemetry's SDK, which is loaded only where an endpoint is configured. */
async function openTelemetry(
  { telemetry }: Config,
  log: Logger,
  worker: number | undefined,
): Promise<Telemetry | undefined> {
  if (telemetry === undefined) return undefined;
  const { startTelemetry } = await import("./monitoring/otel/start.ts");
  return startTelemetry(telemetry, (message) => log.warn(message), worker);
}

/** Creates the embedder of the model in use, with that of the model in use before. */
function createEmbedders(config: Pick<Config, "embedding" | "localModel" | "former">): Embedder {
  const embedder = createEmbedder(config, "EMBEDDING__MODEL");
  return config.former === undefined
    ? embedder
    : withFormer(embedder, createEmbedder(config.former, "EMBEDDING__FORMER__MODEL"));
}

function createEmbedder(
  { embedding, localModel }: Pick<Config, "embedding" | "localModel">,
  variable: string,
): Embedder {
  if (embedding !== undefined) return createOpenAIEmbedder(embedding);
  if (localModel === "meaning") return createMeaningEmbedder();
  if (localModel === "lexical") return createLexicalEmbedder();
  try {
    return createOnnxEmbedder(localModel);
  } catch (error) {
    throw new Error(`${variable}: ${messageOf(error)}`, { cause: error });
  }
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
function advise(config: Config, model: string, hasKeys: boolean): string[] {
  return [
    ...(config.database.url === undefined
      ? ["For production set DATABASE_URL to a Postgres with pgvector."]
      : []),
    ...(config.workers.isRefused
      ? ["WORKERS is ignored: the embedded database belongs to one process."]
      : []),
    ...(config.workers.count * 2 > config.database.poolMax && config.workers.count > 1
      ? [
          `DATABASE_POOL_MAX is exceeded: each of ${config.workers.count} workers has at least two connections.`,
        ]
      : []),
    ...(config.embedding === undefined && isBuiltIn(model)
      ? [
          "For search by meaning in other languages than English, and at a better quality, set EMBEDDING__BASE_URL and EMBEDDING__MODEL.",
        ]
      : []),
    ...(config.requiresKeys || hasKeys
      ? []
      : ["Without a key the service listens on loopback only: set SERVER_API_KEY to open it."]),
    ...(config.requiresKeys && config.apiKeys.length === 0 && config.tokens === undefined && !hasKeys
      ? [
          "No key exists yet, so every call is refused. Make the first one by `npm run keys -- create --name admin --scopes all`, or set SERVER_API_KEY.",
        ]
      : []),
    ...(config.apiKeys.some((key) => key.length < KEY_CHARS_MIN)
      ? [`SERVER_API_KEY: a key of fewer than ${KEY_CHARS_MIN} characters can be guessed.`]
      : []),
  ];
}
