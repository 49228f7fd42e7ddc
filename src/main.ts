import { readConfig, readLogConfig, type Config } from "./config.ts";
import { messageOf } from "./errors.ts";
import { createLogger } from "./log/logger.ts";
import { findMisspelled } from "./settings/misspelled.ts";
import { findSilence, withoutSecrets } from "./models/reach.ts";
import { onReload, onSignal } from "./signals.ts";
import { openLink } from "./workers/link.ts";
import type { Report } from "./workers/messages.ts";

/** How long closing the database may take, and everything after the grace, before the process ends anyway. */
const STOP_MARGIN_MS = 4_000;
/** How long the process may take to end by itself once all has stopped. */
const LINGER_MS = 1_000;
/** How much longer than it allows itself a worker may take to end. */
const WORKER_MARGIN_MS = 8_000;

/** The connection to the supervisor where this process is a worker of several. */
const link = openLink({ retire: () => leave("retire"), orphaned: () => leave("orphaned") });
const log = createLogger({ ...readLogConfig(process.env), worker: link?.number });

/** Aborts at the first SIGTERM or SIGINT. */
const stopping = new AbortController();
/**
 * Graceful shutdown: drains the server and closes the database. Undefined until the service is built: before
 * that the process can simply exit.
 */
let stop: ((why: Why) => Promise<void>) | undefined;
/** Ends the workers without a shutdown. */
let killWorkers = () => {};

/** Why a process ends: a signal, or what happened to the workers beside it or its supervisor. */
type Why = NodeJS.Signals | "retire" | "orphaned";

async function main(): Promise<void> {
  if (link === undefined) {
    for (const { name, meant } of findMisspelled(process.env))
      log.warn(`The variable ${name} is not read: did you mean ${meant}?`);
  }
  const config = readConfig(process.env);
  const report = await (link === undefined && config.workers.count > 1 ? supervise(config) : serve(config));
  if (link !== undefined) return link.ready(report);
  log.info({ table: report.table }, "Ready");
  for (const advice of report.advice) log.warn(advice);
  const { embedding, former } = config;
  if (embedding !== undefined) void checkProvider("EMBEDDING__BASE_URL", embedding.baseUrl);
  const formerUrl = former?.embedding?.baseUrl;
  if (formerUrl !== undefined && formerUrl !== embedding?.baseUrl)
    void checkProvider("EMBEDDING__FORMER__BASE_URL", formerUrl);
}

/** Serves in this process. */
async function serve(config: Config): Promise<Report> {
  // Loaded here, so that a supervisor does not load the service.
  const { buildService } = await import("./serve.ts");
  const service = await buildService(config, log, link);
  link?.answer(service.collectMetrics);
  stop = async (why) => {
    const { delayMs, graceMs } = config.shutdown;
    if (link === undefined) announce(why, config);
    // Whatever hangs, a process that was told to end must end.
    setTimeout(
      exit,
      delayMs + graceMs + STOP_MARGIN_MS,
      "Ending although not everything has stopped",
    ).unref();
    if (why === "retire") await service.retire(graceMs);
    else await service.stop(graceMs, why === "orphaned" ? 0 : delayMs);
    await link?.close(await service.collectMetrics());
  };
  return service.listen();
}

/** Starts and supervises the processes that serve. */
async function supervise(config: Config): Promise<Report> {
  const { Supervisor } = await import("./workers/supervisor.ts");
  const { count } = config.workers;
  const { delayMs, graceMs } = config.shutdown;
  const supervisor = new Supervisor(count, delayMs + graceMs + STOP_MARGIN_MS + WORKER_MARGIN_MS, log);
  killWorkers = () => supervisor.killAll();
  let isStarted = false;
  onReload(() => {
    if (!isStarted) return;
    log.info("SIGHUP: replacing the workers one after the other");
    void supervisor.reload();
  });
  const report = await supervisor.start();
  isStarted = true;
  stop = async (why) => {
    announce(why, config);
    await supervisor.stop();
  };
  const pids = supervisor.pids.join(", ");
  return { ...report, table: { ...report.table, workers: `${count} processes: ${pids}` } };
}

function announce(why: Why, { shutdown: { delayMs, graceMs } }: Config): void {
  log.info(`${why}: finishing the calls in flight, for at most ${(delayMs + graceMs) / 1000} s`);
}

/**
 * Logs a warning when the embedding provider does not answer. Runs in the background: the start does not
 * wait.
 */
async function checkProvider(variable: string, baseUrl: string): Promise<void> {
  const fault = await findSilence(baseUrl, stopping.signal);
  if (fault === undefined || stopping.signal.aborted) return;
  log.warn(
    `${variable}: ${withoutSecrets(baseUrl)} does not answer (${fault}). Texts cannot be embedded until it does.`,
  );
}

async function end(why: Why): Promise<void> {
  if (stopping.signal.aborted) {
    // A worker may get the same signal from its terminal and from its supervisor, which kills it if need be.
    if (link !== undefined) return;
    killWorkers();
    process.exit(1);
  }
  stopping.abort();
  if (stop === undefined) {
    if (link === undefined) log.info(`${why} during the start: ending`);
    killWorkers();
    process.exit(0);
  }
  await stop(why);
  if (link === undefined) log.info("Stopped");
  setTimeout(exit, LINGER_MS, "Ending although a connection or a timer is left").unref();
}

/** Ends a worker in whose place, or without whose supervisor, it cannot go on. */
function leave(why: Why): void {
  if (why === "orphaned") log.warn("The supervisor has ended: finishing the calls in flight");
  void end(why).catch(fail);
}

/** Ends the process in spite of what is left. */
function exit(reason: string): never {
  log.warn(reason);
  process.exit(0);
}

/** Ends the process with exit code 1, and the reason as the last line of the log in every format. */
async function fail(error: unknown): Promise<never> {
  const message = messageOf(error);
  log.debug({ err: error }, "The stack of the fatal error");
  if (link === undefined) {
    killWorkers();
    log.fatal(message);
    if (!log.isLevelEnabled("fatal")) process.stderr.write(`${message}\n`);
  } else {
    // The supervisor logs it: as its own last line if it ends as well.
    await link.fail(message);
  }
  process.exit(1);
}

onSignal((signal) => void end(signal).catch(fail));
process.on("uncaughtException", (error) => {
  log.error({ err: error }, "Uncaught exception or unhandled rejection");
  void fail(error);
});
await main().catch(async (error: unknown) => {
  // A signal during the start makes the start fail: that error is expected.
  if (!stopping.signal.aborted) await fail(error);
});
