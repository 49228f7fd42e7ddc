import { hostname } from "node:os";
import { pino, type Logger } from "pino";
import { traceIds } from "../tracing.ts";
import { serializeError } from "./error.ts";
import { openOutput, type LogOutput } from "./output.ts";
import { formatText, terminalStyle } from "./text.ts";

/** Level and format of the log. */
export interface LogOptions {
  level: string;
  /**
   * `json`: one JSON object per line; `text`: for people; `auto`: text if standard output is a terminal, else
   * JSON.
   */
  format: "auto" | "json" | "text";
  /** Number of the worker that the process is; undefined: it is none. */
  worker?: number | undefined;
  /** Whether lines of traced work have the ids of its span. */
  isTraced?: boolean | undefined;
}

/** Creates the logger of the process. Default output: standard output. */
export function createLogger(
  { level, format, worker, isTraced = false }: LogOptions,
  output: LogOutput = openOutput(),
): Logger {
  const isText = format === "text" || (format === "auto" && process.stdout.isTTY);
  const text: LogOutput = { write: (line) => output.write(formatText(line, terminalStyle)) };
  const serializers = { err: (error: unknown) => serializeError(error) };
  const base = { pid: process.pid, hostname: hostname(), ...(worker === undefined ? {} : { worker }) };
  const ids = isTraced ? { mixin: () => traceIds() ?? {} } : {};
  return pino({ level, serializers, base, ...ids }, isText ? text : output);
}
