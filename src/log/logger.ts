import { pino, type Logger } from "pino";
import { openOutput } from "./output.ts";

/** Makes the logger of the process, which writes to standard output. */
export function createLogger(level: string): Logger {
  return pino({ level }, openOutput());
}
