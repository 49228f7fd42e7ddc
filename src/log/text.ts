import { styleText } from "node:util";
import type { LoggedError } from "./error.ts";

/** Applies a terminal style, such as a colour, to a text, or returns the text unchanged. */
export type Style = (style: "dim" | "bold" | "green" | "yellow" | "red", text: string) => string;

/** Styles for standard output; no styles if that is not a terminal, or if NO_COLOR is set. */
export const terminalStyle: Style = (style, text) => styleText(style, text, { stream: process.stdout });

/** A log line of pino; keys that are not listed here are shown as details. */
interface Line {
  level: number;
  time: number;
  msg?: string;
  pid?: number;
  hostname?: string;
  /** Name of the RPC, for lines about a call. */
  rpc?: string;
  err?: LoggedError | string;
  requestId?: string;
  /** A table below the message: name -> value. */
  table?: Record<string, string>;
  [detail: string]: unknown;
}

const LEVELS: Record<number, { name: string; style: Parameters<Style>[0] }> = {
  10: { name: "TRACE", style: "dim" },
  20: { name: "DEBUG", style: "dim" },
  30: { name: "INFO", style: "green" },
  40: { name: "WARN", style: "yellow" },
  50: { name: "ERROR", style: "red" },
  60: { name: "FATAL", style: "red" },
};

/** Indentation of the second and later lines of an entry: the width of time and level. */
const INDENT = " ".repeat(15);

/** Converts a JSON line of pino to text for people: time of day, level, message, details. */
export function formatText(json: string, style: Style): string {
  const { level, time, msg = "", pid: _pid, hostname: _host, ...about } = JSON.parse(json) as Line;
  const { rpc, requestId, err, table, ...details } = about;
  const { name, style: levelStyle } = LEVELS[level] ?? { name: String(level), style: "dim" };
  const title = rpc === undefined ? msg : `${rpc} ${msg}`;
  const shown = Object.entries(requestId === undefined ? details : { ...details, requestId }).map(
    ([key, value]) => style("dim", `${key}=${formatValue(value)}`),
  );
  const head = [
    style("dim", new Date(time).toTimeString().slice(0, 8)),
    style(levelStyle, name.padEnd(5)),
    title === "" ? [] : level >= 40 ? style(levelStyle, clean(title)) : clean(title),
    shown,
  ];
  const lines = [
    head.flat().join(" "),
    ...(table === undefined ? [] : ["", ...formatTable(table, style), ""]),
    ...(err === undefined
      ? []
      : formatError(err)
          .split("\n")
          .map((line) => style("dim", line))),
  ];
  return `${lines.join("\n").replaceAll("\n", `\n${INDENT}`).replaceAll(/ +$/gm, "")}\n`;
}

function formatValue(value: unknown): string {
  if (typeof value === "string" && /^[\w.:/@-]+$/.test(value)) return value;
  return clean(JSON.stringify(value));
}

function formatTable(table: Record<string, string>, style: Style): string[] {
  const width = Math.max(...Object.keys(table).map((name) => name.length));
  return Object.entries(table).map(
    ([name, value]) => `${style("bold", name.padEnd(width))}  ${clean(value)}`,
  );
}

function formatError(error: LoggedError | string): string {
  if (typeof error === "string") return clean(error);
  const text = clean(error.stack ?? `${error.type}: ${error.message}`);
  return error.cause === undefined ? text : `${text}\ncaused by ${formatError(error.cause)}`;
}

/**
 * Escapes control characters other than line feed: texts of callers get into the log, and a terminal would
 * execute escape sequences (log injection).
 */
function clean(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (character) =>
    character === "\n" ? character : `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}
