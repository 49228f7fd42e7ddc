import { pino, type Logger } from "pino";
import { serializeError } from "./error.ts";
import { openOutput, type LogOutput } from "./output.ts";

/** Makes the logger of the process, which writes to standard output unless another output is given. */
export function createLogger(level: string, output: LogOutput = openOutput()): Logger {
  return pino({ level, serializers: { err: (error: unknown) => serializeError(error) } }, output);
}
