import type { Limits, ProjectLimits } from "../api/rates/limits.ts";
import type { Database } from "../postgres/database.ts";
import { cancellable } from "../postgres/transaction.ts";
import { findLimits } from "./projects.ts";

/** How long what was read holds; a change takes effect in every process within this time. */
const FRESH_MS = 1_000;
/** A project counts as in use for this long after its last call, and is read again together with the others. */
const IN_USE_MS = 60_000;
/** Timeout of reading limits, for which calls of a project that is not known yet wait. */
const READ_MS = 2_000;

/** What is known of a project. */
interface Entry {
  limits: Limits;
  usedAtMs: number;
}

/**
 * Caches the limits of projects. Those in use are read again every second, all with one statement; only the first call
 * of a project in a process waits. While the database is away, what is known goes on to hold, and an unknown project has
 * the service's defaults: limits protect the service, and must not end it.
 */
export class CachedProjectLimits implements ProjectLimits {
  readonly #database: Database;
  readonly #defaults: Limits;
  readonly #projects = new Map<string, Entry>();
  readonly #reading = new Map<string, Promise<Limits>>();
  #readAtMs = -Infinity;
  #isRefreshing = false;

  /** `defaults`: the limits of projects that do not set them. */
  constructor(database: Database, defaults: Limits) {
    this.#database = database;
    this.#defaults = defaults;
  }

  find(project: string): Limits | Promise<Limits> {
    const entry = this.#projects.get(project);
    if (entry === undefined) return this.#readFirst(project);
    const nowMs = performance.now();
    entry.usedAtMs = nowMs;
    if (nowMs - this.#readAtMs >= FRESH_MS) void this.#refresh();
    return entry.limits;
  }

  current(project: string): Limits {
    return this.#projects.get(project)?.limits ?? this.#defaults;
  }

  /** Takes over a change that was made in this process. */
  forget(): void {
    this.#readAtMs = -Infinity;
    void this.#refresh();
  }

  #readFirst(project: string): Promise<Limits> {
    const reading = this.#reading.get(project);
    if (reading !== undefined) return reading;
    const read = this.#read([project])
      .catch(() => {})
      .then(() => {
        this.#reading.delete(project);
        return this.current(project);
      });
    this.#reading.set(project, read);
    return read;
  }

  async #refresh(): Promise<void> {
    if (this.#isRefreshing) return;
    this.#isRefreshing = true;
    const sinceMs = performance.now() - IN_USE_MS;
    for (const [project, { usedAtMs }] of this.#projects)
      if (usedAtMs < sinceMs) this.#projects.delete(project);
    this.#readAtMs = performance.now();
    await this.#read([...this.#projects.keys()]).catch(() => {});
    this.#isRefreshing = false;
  }

  async #read(projects: readonly string[]): Promise<void> {
    if (projects.length === 0) return;
    const { probe, tables } = this.#database;
    const found = await cancellable(probe, AbortSignal.timeout(READ_MS), (client) =>
      findLimits(client, tables, projects),
    );
    for (const project of projects) {
      const usedAtMs = this.#projects.get(project)?.usedAtMs ?? performance.now();
      const own = found.get(project);
      const limits = own === undefined ? this.#defaults : { ...this.#defaults, ...own };
      this.#projects.set(project, { limits, usedAtMs });
    }
  }
}
