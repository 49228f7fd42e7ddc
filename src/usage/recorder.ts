import { keep } from "../api/fresh-cache.ts";
import { insufficientQuota } from "../errors.ts";
import type { Payer } from "../models/embedder.ts";
import type { Database } from "../postgres/database.ts";
import { transaction } from "../postgres/transaction.ts";
import { noteStores } from "./stores.ts";
import { addTokens, findTokenQuota, type TokenUse } from "./tokens.ts";

/** The logger of the recorder, whose events belong to no request. */
export interface UsageLog {
  warn: (details: object, message: string) => void;
}

/** How often the tokens used are written: a process that is killed loses so much of what it counted. */
const FLUSH_MS = 5_000;
/** How often what stores hold is noted, and when for the first time. */
const NOTE_MS = 3_600_000;
const FIRST_NOTE_MS = 60_000;
/** How long what was read of a quota holds, beside what this process counts itself. */
const FRESH_MS = 1_000;

/** What is known of a project's quota of tokens. */
interface Quota {
  /** Undefined: the project has none. */
  max: number | undefined;
  used: number;
  readAtMs: number;
}

/**
 * Counts the tokens that projects use, writes them every few seconds and at the end, and refuses more of them where a
 * project has used up its quota of the month. A refusal comes late by what calls under way use, and by what other
 * processes have used and not written yet.
 */
export class UsageRecorder {
  readonly #database: Database;
  readonly #log: UsageLog;
  /** What is not written yet. */
  #counted = new Map<string, TokenUse>();
  readonly #quotas = new Map<string, Quota>();
  #flushing: Promise<void> = Promise.resolve();
  readonly #timers: NodeJS.Timeout[];

  constructor(database: Database, log: UsageLog) {
    this.#database = database;
    this.#log = log;
    const note = () => void this.#noteStores();
    this.#timers = [
      setInterval(() => void this.flush(), FLUSH_MS).unref(),
      setTimeout(note, FIRST_NOTE_MS).unref(),
      setInterval(note, NOTE_MS).unref(),
    ];
  }

  /** Throws INSUFFICIENT_QUOTA when a project has used its tokens of the month. */
  async requireTokens({ project }: Payer): Promise<void> {
    const known = this.#quotas.get(project);
    const isFresh = known !== undefined && performance.now() - known.readAtMs < FRESH_MS;
    const { max, used } = isFresh ? known : await this.#readQuota(project);
    if (max === undefined) return;
    const total = used + this.#countedOf(project);
    if (total < max) return;
    const message = `Project '${project}' has used up its quota 'max_embedding_tokens_per_month' of ${max} tokens: ${total} were used this month.`;
    throw insufficientQuota(message, {
      limit: "max_embedding_tokens_per_month",
      subject: `project:${project}`,
    });
  }

  /** Counts a call that has embedded texts. */
  count({ project, keyId }: Payer, model: string, tokens: number): void {
    const day = new Date().toISOString().slice(0, 10);
    this.#add({ project, day, model, keyId, tokens, requests: 1 });
  }

  /** Writes what is counted; when that fails, it is tried again at the next time. */
  flush(): Promise<void> {
    this.#flushing = this.#flushing.then(() => this.#write());
    return this.#flushing;
  }

  /** Writes what is counted, for the last time. */
  async stop(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    await this.flush();
  }

  #add(use: TokenUse): void {
    const key = JSON.stringify([use.project, use.day, use.model, use.keyId]);
    const known = this.#counted.get(key);
    if (known === undefined) this.#counted.set(key, use);
    else {
      known.tokens += use.tokens;
      known.requests += use.requests;
    }
  }

  #countedOf(project: string): number {
    let tokens = 0;
    for (const use of this.#counted.values()) if (use.project === project) tokens += use.tokens;
    return tokens;
  }

  async #write(): Promise<void> {
    if (this.#counted.size === 0) return;
    const uses = [...this.#counted.values()];
    this.#counted = new Map();
    // Until the next look at the table, which then has them.
    for (const { project, tokens } of uses) {
      const quota = this.#quotas.get(project);
      if (quota !== undefined) quota.used += tokens;
    }
    const { pool, tables } = this.#database;
    try {
      await transaction(pool, (client) => addTokens(client, tables, uses));
    } catch (error) {
      this.#log.warn({ err: error }, "Cannot write the tokens used; they are kept and tried again");
      uses.forEach((use) => this.#add(use));
    }
    for (const [project, quota] of this.#quotas) this.#quotas.set(project, { ...quota, readAtMs: -Infinity });
  }

  /** Reads a quota, not while what counts for it is being written: it would be counted twice, or not at all. */
  async #readQuota(project: string): Promise<Quota> {
    await this.#flushing;
    const { pool, tables } = this.#database;
    const readAtMs = performance.now();
    const found = await findTokenQuota(pool, tables, project);
    const quota = { max: found?.max, used: found?.used ?? 0, readAtMs };
    keep(this.#quotas, project, quota, QUOTAS_MAX);
    return quota;
  }

  async #noteStores(): Promise<void> {
    const { pool, tables } = this.#database;
    try {
      await transaction(pool, (client) => noteStores(client, tables));
    } catch (error) {
      this.#log.warn({ err: error }, "Cannot note what stores hold; it is tried again in an hour");
    }
  }
}

/** Projects whose quotas are kept in memory. */
const QUOTAS_MAX = 10_000;
