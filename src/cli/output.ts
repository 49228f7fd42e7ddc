import type { DescMessage, Message } from "@bufbuild/protobuf";
import { styleText } from "node:util";
import { writeMessage } from "../wire/rest/json-writer.ts";

/** Prints a message as a line of JSON, in the names and shapes of REST. */
export function printJson(desc: DescMessage, message: Message): void {
  process.stdout.write(`${JSON.stringify(writeMessage(desc, message))}\n`);
}

/** Prints rows as a table with aligned columns; numbers are aligned to the right. */
export function printTable(head: readonly string[], rows: readonly (readonly (string | number)[])[]): void {
  const lines = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  for (const [index, line] of lines.entries()) {
    const cells = line.map((text, column) =>
      typeof rows[0]?.[column] === "number"
        ? text.padStart(widths[column] ?? 0)
        : text.padEnd(widths[column] ?? 0),
    );
    const text = cells.join("  ").trimEnd();
    process.stdout.write(`${index === 0 ? styleText("bold", text) : text}\n`);
  }
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** A number of bytes, for people. */
export function formatBytes(bytes: number): string {
  let [value, unit] = [bytes, 0];
  for (; value >= 1024 && unit < UNITS.length - 1; unit++) value /= 1024;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** A time in seconds since 1970, for people: in UTC, to the minute. */
export function formatTime(seconds: bigint | undefined): string {
  return seconds === undefined
    ? "-"
    : new Date(Number(seconds) * 1000).toISOString().slice(0, 16).replace("T", " ");
}

/** A duration, for people: 12 s, 3 min 5 s, 2 h 1 min. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Milliseconds between lines of progress: often enough for eyes, and for a log. */
const TERMINAL_MS = 200;
const LOG_MS = 10_000;

/** Shows progress on stderr: one line that changes on a terminal, a line every ten seconds elsewhere. */
export class Progress {
  readonly #describe: () => string;
  readonly #timer: NodeJS.Timeout;
  readonly #isTerminal = process.stderr.isTTY;

  /** `describe`: the line that is to be shown now. */
  constructor(describe: () => string) {
    this.#describe = describe;
    this.#timer = setInterval(() => this.#show(), this.#isTerminal ? TERMINAL_MS : LOG_MS).unref();
  }

  /** Prints a line that stays. */
  say(line: string): void {
    process.stderr.write(this.#isTerminal ? `\r\x1b[K${line}\n` : `${line}\n`);
  }

  /** Shows the last line, and ends. */
  end(): void {
    clearInterval(this.#timer);
    this.say(this.#describe());
  }

  #show(): void {
    if (this.#isTerminal) process.stderr.write(`\r\x1b[K${this.#describe()}`);
    else this.say(this.#describe());
  }
}
