import type { Principal } from "../api/principal.ts";
import { readScopes } from "../api/scope.ts";
import type { Database } from "../postgres/database.ts";
import { cancellable, transaction } from "../postgres/transaction.ts";
import { FreshCache } from "../api/fresh-cache.ts";
import { certificateDigest, isKey } from "./key.ts";
import { findLiveKeys, hasKeys, noteUses, type LiveKey } from "./keys.ts";
import { findLiveProjects } from "./projects.ts";

/** How often the times of last use are written. */
const USES_MS = 60_000;
/** Timeout of reading keys and projects. */
const READ_MS = 3_000;

/** What is known of a key. */
interface KnownKey {
  principal: Principal;
  expiresAtMs: number;
}

/** Finds the principals of keys by their digests, and whether projects exist: see `FreshCache`. */
export class KeyDirectory {
  /** Whether a text may be a key. */
  readonly isKey = isKey;
  /** The SHA-256 in base64url by which the rights of a certificate's holders are found. */
  readonly certificateDigest = (subject: string) => certificateDigest(subject).toString("base64url");
  readonly #database: Database;
  readonly #keys: FreshCache<KnownKey>;
  readonly #projects: FreshCache<true>;
  #usesWrittenAtMs = performance.now();
  #hasKeys: boolean;

  /** Reads whether there are keys. */
  static async open(database: Database): Promise<KeyDirectory> {
    return new KeyDirectory(database, await hasKeys(database.pool, database.tables));
  }

  private constructor(database: Database, isInUse: boolean) {
    this.#database = database;
    this.#hasKeys = isInUse;
    this.#keys = new FreshCache({
      read: (digests) => this.#readKeys(digests),
      onRefresh: async () => {
        if (performance.now() - this.#usesWrittenAtMs > USES_MS) await this.#writeUses().catch(() => {});
      },
    });
    this.#projects = new FreshCache({ read: (ids) => this.#readProjects(ids) });
  }

  /** Whether a key was ever made, as far as this process knows. */
  get exist(): boolean {
    return this.#hasKeys;
  }

  /**
   * Returns the principal of a key; undefined when there is no such key. Throws UNAVAILABLE when the database has to be
   * asked and does not answer.
   */
  find(digest: string): Principal | undefined | Promise<Principal | undefined> {
    const found = this.#keys.find(digest);
    return found instanceof Promise ? found.then(unexpired) : unexpired(found);
  }

  /** Whether a project exists and is not archived. Throws UNAVAILABLE like `find`. */
  hasProject(id: string): boolean | Promise<boolean> {
    const found = this.#projects.find(id);
    return found instanceof Promise ? found.then((isLive) => isLive === true) : found === true;
  }

  /** Forgets what is known, after keys or projects were changed in this process. */
  forget(): void {
    this.#keys.forget();
    this.#projects.forget();
  }

  /** Forgets what is known, after a key was made in this process: from now on callers need one. */
  noteKey(): void {
    this.#hasKeys = true;
    this.forget();
  }

  /** Ends the work in the background, after writing the times of last use. */
  async stop(): Promise<void> {
    this.#keys.stop();
    this.#projects.stop();
    await this.#writeUses().catch(() => {});
  }

  async #readKeys(digests: readonly string[]): Promise<ReadonlyMap<string, KnownKey>> {
    const readAtMs = performance.now();
    const { probe, tables } = this.#database;
    const rows = await cancellable(probe, AbortSignal.timeout(READ_MS), (client) =>
      findLiveKeys(client, tables, digests),
    );
    if (rows.length > 0) this.#hasKeys = true;
    return new Map(rows.map((row) => [row.digest, toKnown(row, readAtMs)]));
  }

  async #readProjects(ids: readonly string[]): Promise<ReadonlyMap<string, true>> {
    const { probe, tables } = this.#database;
    const live = await cancellable(probe, AbortSignal.timeout(READ_MS), (client) =>
      findLiveProjects(client, tables, ids),
    );
    return new Map(live.map((id) => [id, true]));
  }

  async #writeUses(): Promise<void> {
    const used = this.#keys.usedSince(this.#usesWrittenAtMs);
    this.#usesWrittenAtMs = performance.now();
    if (used.length === 0) return;
    const uses = used.map(({ value, usedAtMs }) => ({
      id: value.principal.keyId,
      at: new Date(performance.timeOrigin + usedAtMs),
    }));
    const { pool, tables } = this.#database;
    await transaction(pool, (client) => noteUses(client, tables, uses));
  }
}

function unexpired(key: KnownKey | undefined): Principal | undefined {
  return key !== undefined && performance.now() < key.expiresAtMs ? key.principal : undefined;
}

function toKnown(row: LiveKey, readAtMs: number): KnownKey {
  return {
    principal: {
      kind: "api_key",
      project: row.project_id,
      keyId: row.id,
      scopes: readScopes(row.scopes),
      storeIds: row.store_ids === null ? undefined : new Set(row.store_ids),
      caller: `${row.project_id}/${row.id}`,
      limits: row.limits ?? undefined,
    },
    expiresAtMs: row.expires_in_ms === null ? Infinity : readAtMs + row.expires_in_ms,
  };
}
