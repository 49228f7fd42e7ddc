import { FreshCache } from "../api/fresh-cache.ts";
import type { Database } from "../postgres/database.ts";
import { cancellable } from "../postgres/transaction.ts";
import { localId } from "../store-id.ts";
import { findAliasesOf } from "./aliases.ts";

/** Timeout of reading aliases, for which calls wait where they are not known. */
const READ_MS = 3_000;
/** For how long after a failed read calls do not wait for another, and use what was known. */
const AWAY_MS = 5_000;
/** Projects whose aliases are kept for when the database is away. */
const PROJECTS_MAX = 10_000;

/** The stores that names stand for, both by the ids that callers use. */
type Stores = ReadonlyMap<string, string>;

/**
 * The aliases of stores, by project. Those of projects in use are read again before they are a second old, all with one
 * statement (`FreshCache`): so a call with the id of a store, or with an alias, costs no round trip, and a switch takes
 * effect in every process within a second. While the database is away, what is known goes on to hold: searches on
 * replicas do not end with the primary.
 */
export class AliasDirectory {
  readonly #database: Database;
  readonly #cache: FreshCache<Stores>;
  readonly #known = new Map<string, Stores>();
  #failedAtMs = -Infinity;

  constructor(database: Database) {
    this.#database = database;
    this.#cache = new FreshCache({ read: async (projects) => this.#read(projects) });
  }

  /** Returns the aliases of a project. Throws UNAVAILABLE when they are not known and the database does not answer. */
  of(project: string): Stores | Promise<Stores> {
    // The embedded database belongs to this process, which is told of every change; and a call may hold its connection.
    const held = this.#database.kind === "postgres" ? undefined : this.#known.get(project);
    if (held !== undefined) return held;
    const found = this.#cache.find(project);
    if (!(found instanceof Promise)) return found ?? NONE;
    const known = this.#known.get(project);
    const read = found.then(
      (stores) => stores ?? NONE,
      (error: unknown) => {
        this.#failedAtMs = performance.now();
        if (known === undefined) throw error;
        return known;
      },
    );
    if (known === undefined || performance.now() - this.#failedAtMs > AWAY_MS) return read;
    // Tried in the background meanwhile.
    read.catch(() => {});
    return known;
  }

  /** Forgets what is known, after aliases were changed in this process. */
  forget(): void {
    if (this.#database.kind !== "postgres") this.#known.clear();
    this.#cache.forget();
  }

  /** Ends the work in the background. */
  async stop(): Promise<void> {
    this.#cache.stop();
  }

  async #read(projects: readonly string[]): Promise<ReadonlyMap<string, Stores>> {
    const { probe, tables } = this.#database;
    const rows = await cancellable(probe, AbortSignal.timeout(READ_MS), (client) =>
      findAliasesOf(client, tables, projects),
    );
    const found = new Map(projects.map((project) => [project, new Map<string, string>()]));
    for (const { project_id: project, name, vector_store_id: storeId } of rows)
      found.get(project)?.set(name, localId(storeId));
    for (const [project, stores] of found) this.#keep(project, stores);
    return found;
  }

  #keep(project: string, stores: Stores): void {
    this.#known.delete(project);
    this.#known.set(project, stores);
    const [oldest] = this.#known.keys();
    if (this.#known.size > PROJECTS_MAX && oldest !== undefined) this.#known.delete(oldest);
  }
}

const NONE: Stores = new Map();
