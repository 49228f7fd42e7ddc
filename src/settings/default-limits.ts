import type { LimitName, Limits } from "../api/rates/limits.ts";

/** The variables of the limits, as they were given; 0: no limit. */
type LimitSettings = Record<
  | "LIMIT_REQUESTS_PER_MINUTE"
  | "LIMIT_ROWS_PER_SECOND"
  | "LIMIT_CONCURRENT_SEARCHES"
  | "LIMIT_CONCURRENT_STREAMS"
  | "LIMIT_INGEST_MEMORY_PERCENT"
  | "LIMIT_FILE_WORKERS"
  | "LIMIT_CONNECTION_PERCENT",
  number
>;

/** The limits of projects that set none. */
export function readProjectLimits(settings: LimitSettings): Limits {
  const limits = {
    max_requests_per_1_minute: settings.LIMIT_REQUESTS_PER_MINUTE,
    max_rows_per_1_second: settings.LIMIT_ROWS_PER_SECOND,
    max_concurrent_searches: settings.LIMIT_CONCURRENT_SEARCHES,
    max_concurrent_streams: settings.LIMIT_CONCURRENT_STREAMS,
    max_ingest_memory_percent: settings.LIMIT_INGEST_MEMORY_PERCENT,
    max_file_workers: settings.LIMIT_FILE_WORKERS,
    max_connection_percent: settings.LIMIT_CONNECTION_PERCENT,
  } satisfies Record<LimitName, number>;
  return Object.fromEntries(Object.entries(limits).filter(([, limit]) => limit > 0));
}
