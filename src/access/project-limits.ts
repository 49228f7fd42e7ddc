import { keep } from "../api/fresh-cache.ts";
import type { Limits, ProjectLimits } from "../api/rates/limits.ts";
import type { Database } from "../postgres/database.ts";
import { cancellable } from "../postgres/transaction.ts";
import { findBounds } from "./projects.ts";

/** How long what was read of limits holds, and for how long after that it is believed that a project has no quotas. */
const FRESH_MS = 1_000;
const LATE_MS = 1_000;
/** A project counts as in use for this long after its last call: it is read again together with the others. */
const IN_USE_MS = 60_000;
/** Projects kept in memory. */
const PROJECTS_MAX = 10_000;
/** Timeout of reading limits, for which calls of a project that is not known yet wait. */
const READ_MS = 2_000;

/** What is known of a project. */
interface Entry {
  limits: Limits;
  hasQuotas: boolean;
  usedAtMs: number;
  /** When the statement that read it was sent. */
  readAtMs: number;
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
  /** Counts the calls of `forget`: what was read before one may be out of date. */
  #forgets = 0;

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

  mayHaveQuotas(project: string): boolean {
    const entry = this.#projects.get(project);
    const isKnown = entry !== undefined && performance.now() - entry.readAtMs < FRESH_MS + LATE_MS;
    return !isKnown || entry.hasQuotas;
  }

  /** Takes over a change that was made in this process. */
  forget(): void {
    this.#forgets++;
    this.#readAtMs = -Infinity;
    for (const entry of this.#projects.values()) entry.readAtMs = -Infinity;
    void this.#refresh();
  }

  #readFirst(project: string): Promise<Limits> {
    const reading = this.#reading.get(project);
    if (reading !== undefined) return reading;
    const read = this.#read([project])
      // Not left unknown: the next calls would wait as well.
      .catch(() => this.#keep(project, { limits: this.#defaults, hasQuotas: true, readAtMs: -Infinity }))
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
    const inUse = [...this.#projects].filter(([, { usedAtMs }]) => usedAtMs >= sinceMs);
    this.#readAtMs = performance.now();
    await this.#read(inUse.map(([project]) => project)).catch(() => {});
    this.#isRefreshing = false;
  }

  async #read(projects: readonly string[]): Promise<void> {
    if (projects.length === 0) return;
    const { probe, tables } = this.#database;
    const readAtMs = performance.now();
    const forgets = this.#forgets;
    const found = await cancellable(probe, AbortSignal.timeout(READ_MS), (client) =>
      findBounds(client, tables, projects),
    );
    if (forgets !== this.#forgets) return this.#read(projects);
    for (const project of projects) {
      const { limits: own = null, has_quotas: hasQuotas = false } = found.get(project) ?? {};
      const limits = own === null ? this.#defaults : { ...this.#defaults, ...own };
      this.#keep(project, { limits, hasQuotas, readAtMs });
    }
  }

  #keep(project: string, read: Omit<Entry, "usedAtMs">): void {
    const usedAtMs = this.#projects.get(project)?.usedAtMs ?? performance.now();
    keep(this.#projects, project, { ...read, usedAtMs }, PROJECTS_MAX);
  }
}
