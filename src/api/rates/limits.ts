/** Names of the limits of a project or a key, as the API and the database spell them. */
export const LIMIT_NAMES = [
  "max_requests_per_1_minute",
  "max_rows_per_1_second",
  "max_concurrent_searches",
  "max_concurrent_streams",
  "max_ingest_memory_percent",
  "max_file_workers",
  "max_connection_percent",
] as const;

export type LimitName = (typeof LIMIT_NAMES)[number];

/** How much may be done at a time; a limit that is absent does not exist. */
export type Limits = Readonly<Partial<Record<LimitName, number>>>;

/** What has a limit: a project, or a key. */
export interface Limited {
  /** The project or the key, such as `project:default`, by which it is counted and which an error names. */
  holder: string;
  limit: number;
}

/** Where the limits of projects come from. */
export interface ProjectLimits {
  /** The limits of a project. Never rejects: a project whose limits cannot be read has the service's defaults. */
  find: (project: string) => Limits | Promise<Limits>;
  /** The same as far as this process knows them, without waiting. */
  current: (project: string) => Limits;
  /** Whether a project may have quotas; false only where it had none a moment ago. */
  mayHaveQuotas: (project: string) => boolean;
}
