import type {
  GetEmbeddingsUsageRequest,
  GetVectorStoresUsageRequest,
} from "../../gen/pgquiver/v1/usage_pb.ts";
import { checkRange } from "../api/checks.ts";
import type { Principal } from "../api/principal.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import { DEFAULT_PROJECT } from "../store-id.ts";

/** Seconds of a bucket. */
export const DAY_SECONDS = 86_400;

/** The days that a request asks for: a page of them. */
export interface Days {
  /** The days' first seconds, in order. */
  starts: number[];
  /** First day, and the day after the last one, such as 2026-11-26. */
  from: string;
  until: string;
  /** The first second of the next page; undefined: none. */
  next: number | undefined;
}

type Request = Pick<
  GetEmbeddingsUsageRequest | GetVectorStoresUsageRequest,
  "startTime" | "endTime" | "bucketWidth" | "limit" | "page"
>;

/** Reads which days are asked for. Throws INVALID_ARGUMENT. */
export function readDays({ startTime, endTime, bucketWidth = "1d", limit, page }: Request): Days {
  if (startTime === 0n) throw missingParameter("start_time");
  checkRange("start_time", Number(startTime), 1, SECONDS_MAX);
  if (endTime !== undefined) checkRange("end_time", Number(endTime), Number(startTime) + 1, SECONDS_MAX);
  if (bucketWidth !== "1d")
    throw invalidArgument("bucket_width", `Invalid value: '${bucketWidth}'. Supported values are: '1d'.`);
  checkRange("limit", limit ?? limits.usage_days_default, 1, limits.usage_days_max);
  const begin = startOfDay(page === undefined ? Number(startTime) : readPage(page));
  const end = Number(endTime ?? Math.floor(Date.now() / 1000) + 1);
  const days = Math.max(0, Math.ceil((end - begin) / DAY_SECONDS));
  const count = Math.min(days, limit ?? limits.usage_days_default);
  const next = begin + count * DAY_SECONDS;
  return {
    starts: Array.from({ length: count }, (_, day) => begin + day * DAY_SECONDS),
    from: toDay(begin),
    until: toDay(next),
    next: count < days ? next : undefined,
  };
}

/** Reads what results are to be told apart by. Throws INVALID_ARGUMENT. */
export function readGroups<Word extends string>(given: readonly string[], known: readonly Word[]): Word[] {
  return given.map((word, index) => {
    const found = known.find((each) => each === word);
    if (found !== undefined) return found;
    const supported = known.map((each) => `'${each}'`).join(", ");
    throw invalidArgument(
      `group_by[${index}]`,
      `Invalid value: '${word}'. Supported values are: ${supported}.`,
    );
  });
}

/** The projects that a caller may see of those asked for; empty: all; undefined: none. */
export function readProjects(
  { project }: Principal,
  asked: readonly string[],
): readonly string[] | undefined {
  if (project === DEFAULT_PROJECT) return asked;
  return asked.length === 0 || asked.includes(project) ? [project] : undefined;
}

/** The cursor of the page that begins at a second. */
export function writePage(seconds: number): string {
  return `page_${seconds}`;
}

/** The UTC day of a second, such as 2026-11-26. */
export function toDay(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 10);
}

function readPage(page: string): number {
  const seconds = /^page_(\d{1,11})$/.exec(page)?.[1];
  if (seconds === undefined || Number(seconds) > SECONDS_MAX)
    throw invalidArgument("page", "Invalid 'page': expected the 'next_page' of a reply.");
  return Number(seconds);
}

function startOfDay(seconds: number): number {
  return Math.floor(seconds / DAY_SECONDS) * DAY_SECONDS;
}

/** The end of the year 9999. */
const SECONDS_MAX = 253_402_300_799;
