import type { ChunkPlace } from "../../gen/pgquiver/v1/embeddings_pb.ts";

const whole = new Intl.NumberFormat("en");
const dates = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const UNITS = ["B", "KB", "MB", "GB", "TB"];

/** A whole number with separators. */
export function formatCount(value: bigint | number): string {
  return whole.format(value);
}

/** A number of bytes in the unit that suits it. */
export function formatBytes(value: bigint | number): string {
  let size = Number(value);
  let unit = 0;
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${UNITS[unit]}`;
}

/** A time in seconds since 1970. */
export function formatTime(seconds: bigint | undefined): string {
  return seconds === undefined ? "never" : dates.format(new Date(Number(seconds) * 1000));
}

/** A duration in milliseconds. */
export function formatDuration(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return `${ms >= 100 ? Math.round(ms) : ms.toFixed(1)} ms`;
}

/** The name of an enum's value, for people: "in progress". */
export function nameOf(values: Record<string, number>, value: number): string {
  const [name = "unknown"] = Object.entries(values).find(([, number]) => number === value) ?? [];
  return name.toLowerCase().replaceAll("_", " ");
}

/** Where a text stands in its file: "page 3 · Returns › Refunds"; "" where nothing is known but the characters. */
export function formatPlace(place: ChunkPlace | undefined): string {
  const { page, lastPage, headings = [] } = place ?? {};
  const pages = page === lastPage ? `page ${page}` : `pages ${page}–${lastPage}`;
  return [...(page === undefined ? [] : [pages]), headings.join(" › ")]
    .filter((part) => part !== "")
    .join(" · ");
}

/** A duration, such as "42 s", "3 min" or "1.5 h". */
export function formatSeconds(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 5_400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3_600).toFixed(1)} h`;
}
