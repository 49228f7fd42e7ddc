import { execFileSync } from "node:child_process";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import type { Result } from "./rounds.ts";

/**
 * Collects and prints the results of a benchmark: tables to stderr at once, one line of JSON to stdout at the
 * end.
 */
export interface Report {
  /** Prints a table with one row per result; each column computes its cell from the row's result. */
  add<Row extends { name: string }>(title: string, results: readonly Row[], columns: Columns<Row>): void;
  finish(): void;
}

export type Columns<Row = Result> = Record<string, (result: Row) => string>;

export function startReport(benchmark: string, databaseVersion: string): Report {
  const commit = run("git", ["rev-parse", "--short", "HEAD"]);
  const isChanged = run("git", ["status", "--porcelain", "--", "src", "gen", "package-lock.json"]) !== "";
  const about = {
    benchmark,
    date: new Date().toISOString(),
    commit: isChanged ? `${commit} and changes` : commit,
    machine: `${cpus().length} cores, ${cpus()[0]?.model}, Node ${process.version}, ${databaseVersion}`,
    loadBefore: loadavg()[0],
  };
  print(`${benchmark}: ${about.date.slice(0, 10)}, ${about.commit}, ${about.machine}`);
  const tables: { title: string; results: readonly object[] }[] = [];
  return {
    add(title, results, columns) {
      tables.push({ title, results });
      print(`\n${title}`);
      printTable([
        ["", ...Object.keys(columns)],
        ...results.map((result) => [result.name, ...Object.values(columns).map((column) => column(result))]),
      ]);
    },
    finish() {
      const loadAfter = loadavg()[0];
      print(`\nload average ${about.loadBefore?.toFixed(2)} before, ${loadAfter?.toFixed(2)} after`);
      process.stdout.write(`${JSON.stringify({ ...about, loadAfter, tables })}\n`);
    },
  };
}

/** Prints a Markdown table, ready to be pasted into the documentation. */
function printTable(rows: string[][]): void {
  const widths = (rows[0] as string[]).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] as string).length)),
  );
  const line = (cells: string[]) => `| ${cells.join(" | ")} |`;
  const pad = (row: string[]) =>
    row.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[0] as number) : cell.padStart(widths[column] as number),
    );
  const [head, ...body] = rows.map(pad);
  print(line(head as string[]));
  print(
    line(widths.map((width, column) => (column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`))),
  );
  for (const row of body) print(line(row));
}

function run(command: string, args: string[]): string {
  return execFileSync(command, args, { cwd: join(import.meta.dirname, "../.."), encoding: "utf8" }).trim();
}

function print(line: string): void {
  process.stderr.write(`${line}\n`);
}
