import type { Report } from "../support/report.ts";

/** A row of the summary: what each contender reached, by its name. */
export interface Line {
  name: string;
  better: "more" | "less";
  values: Map<string, number>;
  /** Decimal places. */
  digits: number;
}

/** The contenders' names: pgquiver's, as it is and with the declared attribute, and those it is compared with. */
interface Contenders {
  ours: string;
  declared: string;
  peers: readonly string[];
  /** What bounds a search: by a service in Node, and by Postgres. */
  floors: readonly string[];
}

/**
 * Adds the table that README shows, with pgquiver's numbers in bold, to the report. Its last column divides the better of
 * pgquiver's numbers by the best peer's, or the other way round where less is better: above 1, pgquiver is ahead.
 */
export function addSummary(
  report: Report,
  title: string,
  lines: readonly Line[],
  contenders: Contenders,
): void {
  const { ours, declared, peers, floors } = contenders;
  const cell = (name: string) => (line: Line) => line.values.get(name)?.toFixed(line.digits) ?? "";
  report.add(title, lines, {
    [ours]: (line) =>
      `**${cell(ours)(line)}**${line.values.has(declared) ? `; declared **${cell(declared)(line)}**` : ""}`,
    ...Object.fromEntries([...peers, ...floors].map((name) => [name, cell(name)])),
    "times the best peer": (line) => compareWithPeers(line, contenders)?.toFixed(2) ?? "",
  });
  if (peers.length === 0) return;
  const behind = findBehind(lines, contenders).map(({ name, ratio }) => `${name} (${ratio.toFixed(2)})`);
  process.stderr.write(
    `\n${behind.length === 0 ? "pgquiver is behind in no row." : `pgquiver is behind in: ${behind.join("; ")}.`}\n`,
  );
}

/** The lines in which a peer is ahead of pgquiver, and by how much. */
export function findBehind(
  lines: readonly Line[],
  contenders: Contenders,
): { name: string; ratio: number }[] {
  return lines
    .map((line) => ({ name: line.name, ratio: compareWithPeers(line, contenders) ?? 1 }))
    .filter(({ ratio }) => ratio < 1);
}

/** How far pgquiver, at its best, is ahead of the best peer; undefined without a peer. */
function compareWithPeers(
  { values, better }: Line,
  { ours, declared, peers }: Contenders,
): number | undefined {
  const best = (names: readonly string[]) => {
    const reached = names.flatMap((name) => values.get(name) ?? []);
    return better === "more" ? Math.max(...reached) : Math.min(...reached);
  };
  const ratio =
    better === "more" ? best([ours, declared]) / best(peers) : best(peers) / best([ours, declared]);
  return Number.isFinite(ratio) && ratio > 0 ? ratio : undefined;
}
