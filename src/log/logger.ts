import { pino, type Logger } from "pino";
import { serializeError } from "./error.ts";
import { openOutput, type LogOutput } from "./output.ts";
import { formatText, terminalStyle } from "./text.ts";

/** What is logged, and how. */
export interface LogOptions {
  level: string;
  /** Lines of JSON, or text for people; auto: text where standard output is a terminal. */
  format: "auto" | "json" | "text";
}

/** Makes the logger of the process, which writes to standard output unless another output is given. */
export function createLogger({ level, format }: LogOptions, output: LogOutput = openOutput()): Logger {
  const isText = format === "text" || (format === "auto" && process.stdout.isTTY);
  const text: LogOutput = { write: (line) => output.write(formatText(line, terminalStyle)) };
  const serializers = { err: (error: unknown) => serializeError(error) };
  return pino({ level, serializers }, isText ? text : output);
}
