import { styleText } from "node:util";
import type { LoggedError } from "./error.ts";

/** Gives a text a style, such as a colour, or leaves it plain. */
export type Style = (style: "dim" | "bold" | "green" | "yellow" | "red", text: string) => string;

/** Styles for the terminal at standard output; plain where that is none, or where NO_COLOR is set. */
export const terminalStyle: Style = (style, text) => styleText(style, text, { stream: process.stdout });

/** A line of pino's: what is not named here is a detail. */
interface Line {
  level: number;
  time: number;
  msg?: string;
  pid?: number;
  hostname?: string;
  /** The call the line is about. */
  rpc?: string;
  err?: LoggedError | string;
  requestId?: string;
  /** Rows of a table under the message: name and value. */
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

/** The width of time and level, by which all but the first line of an entry are indented. */
const INDENT = " ".repeat(15);

/** Turns a line of JSON as pino writes it into one for people: time of day, level, message, details. */
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

/** Shows control characters as escapes: a terminal would obey them, and texts of strangers get into the log. */
function clean(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (character) =>
    character === "\n" ? character : `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}
