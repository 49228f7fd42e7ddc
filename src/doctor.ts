import { existsSync, readFileSync } from "node:fs";
import { styleText } from "node:util";
import { readConfig, type Config } from "./config.ts";
import { openConfigured } from "./postgres/connection/open.ts";
import { findCitus } from "./postgres/citus/cluster.ts";
import { diagnose, type Diagnosis } from "./diagnostics/diagnose.ts";
import { askRunning } from "./diagnostics/running.ts";
import { messageOf } from "./errors.ts";
import { findHolder } from "./postgres/embedded/embedded.ts";

/** Timeout of all checks together. */
const TIMEOUT_MS = 60_000;

/**
 * Runs the checks and prints their findings with remedies, the worst first. Returns whether a finding has the
 * severity "error".
 */
async function main(): Promise<boolean> {
  const config = readConfig(process.env);
  const found = await look(config);
  process.stdout.write(`${found.map(format).join("\n")}\n\n${summarise(found)}\n`);
  return found.some(({ severity }) => severity === "error");
}

async function look({ database, ...config }: Config): Promise<Diagnosis[]> {
  const check = "connection";
  const { url, directory } = database;
  // Opening the embedded database would create it, so a missing one is reported without opening.
  if (url === undefined && !existsSync(directory)) {
    const message = `There is no database in ${directory} yet: the first start of the service creates it.`;
    return [{ check, severity: "notice", message }];
  }
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const holder = url === undefined ? await findHolder(directory) : undefined;
  if (holder !== undefined) return lookThrough(holder, directory, config, signal);
  try {
    const opened = await openConfigured(database);
    try {
      // What fails here, such as the connection, is a finding of a check.
      opened.citus = await findCitus(opened).catch(() => undefined);
      return await diagnose(opened, config.indexes, signal);
    } finally {
      await opened.close();
    }
  } catch (error) {
    return [{ check, severity: "error", message: messageOf(error) }];
  }
}

/**
 * Gets the findings from the running service, because only one process at a time can open the embedded
 * database.
 */
async function lookThrough(
  holder: number,
  directory: string,
  { listen, apiKeys }: Pick<Config, "listen" | "apiKeys">,
  signal: AbortSignal,
): Promise<Diagnosis[]> {
  const { host, port, tls } = listen;
  try {
    return await askRunning(
      { host, port, cert: tls && readFileSync(tls.cert, "utf8"), apiKey: apiKeys[0] },
      signal,
    );
  } catch (error) {
    const message =
      `The embedded database in ${directory} is open in process ${holder}, which gave no ` +
      `findings on port ${port}: ${messageOf(error)}.`;
    const remedy =
      "Set PORT, HOST and SERVER_API_KEY to the values of that process, or call its GET /v1/diagnostics.";
    return [{ check: "connection", severity: "warning", message, remedy }];
  }
}

const STYLES = { ok: "green", notice: "blue", warning: "yellow", error: "red" } as const;

function format({ severity, check, message, remedy }: Diagnosis): string {
  const line = `${styleText(STYLES[severity], severity.toUpperCase().padEnd(8))} ${check}: ${message}`;
  return remedy === undefined ? line : `${line}\n         -> ${remedy}`;
}

function summarise(found: readonly Diagnosis[]): string {
  const count = (severity: Diagnosis["severity"]) => found.filter((one) => one.severity === severity).length;
  return `${count("error")} errors, ${count("warning")} warnings, ${count("notice")} notices, ${count("ok")} ok`;
}

try {
  process.exitCode = (await main()) ? 1 : 0;
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`);
  process.exitCode = 1;
}
