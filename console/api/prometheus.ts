/** One value of a metric. */
export interface Sample {
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

const LINE = /^([a-z_:][\w:]*)(?:\{(.*)\})? (\S+)/i;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Reads Prometheus' text format; lines that are no values are left out. */
export function parseMetrics(text: string): Sample[] {
  return text.split("\n").flatMap((line) => {
    const [, name, labels = "", value] = LINE.exec(line) ?? [];
    if (name === undefined) return [];
    return [{ name, labels: readLabels(labels), value: Number(value === "+Inf" ? "Infinity" : value) }];
  });
}

function readLabels(text: string): Record<string, string> {
  return Object.fromEntries(
    Array.from(text.matchAll(LABEL), ([, key = "", value = ""]) => [key, value.replace(/\\(.)/g, "$1")]),
  );
}

/** The sum of a metric's values, of those whose labels are the given ones. */
export function sum(
  samples: readonly Sample[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number {
  return samples
    .filter((sample) => sample.name === name)
    .filter((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value))
    .reduce((total, { value }) => total + value, 0);
}

/**
 * A quantile of what a histogram observed between two scrapes, by linear interpolation in its bucket as Prometheus does;
 * undefined when nothing was observed.
 */
export function quantile(
  before: readonly Sample[],
  after: readonly Sample[],
  { name, q }: { name: string; q: number },
): number | undefined {
  const counts = (samples: readonly Sample[]) => {
    const byBound = new Map<number, number>();
    for (const { name: found, labels, value } of samples) {
      if (found !== `${name}_bucket`) continue;
      const bound = labels["le"] === "+Inf" ? Infinity : Number(labels["le"]);
      byBound.set(bound, (byBound.get(bound) ?? 0) + value);
    }
    return byBound;
  };
  const old = counts(before);
  const buckets = [...counts(after)]
    .map(([bound, count]) => ({ bound, count: count - (old.get(bound) ?? 0) }))
    .toSorted((a, b) => a.bound - b.bound);
  const total = buckets.at(-1)?.count ?? 0;
  if (total <= 0) return undefined;
  const rank = q * total;
  let lower = { bound: 0, count: 0 };
  for (const bucket of buckets) {
    if (bucket.count >= rank) {
      if (bucket.bound === Infinity) return lower.bound;
      const part = (rank - lower.count) / Math.max(bucket.count - lower.count, 1e-9);
      return lower.bound + (bucket.bound - lower.bound) * part;
    }
    lower = bucket;
  }
  return lower.bound;
}
