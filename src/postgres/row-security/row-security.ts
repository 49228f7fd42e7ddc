import type { Database, Queryable } from "../database.ts";
import type { Tables } from "../tables.ts";
import { messageOf } from "../../errors.ts";
import type { CallRole } from "./pool.ts";
import { installRowSecurity, RowSecurityProblem } from "./install.ts";

/** `auto`: where there are several projects and the database allows it. `on`: or the service does not start. */
export type RowSecurityMode = "auto" | "on" | "off";

/** How often a service without a second project looks whether there is one now. */
const POLL_MS = 5_000;

/** The log that the switch writes to. */
interface SwitchLog {
  info(message: string): void;
  warn(message: string): void;
}

/**
 * Switches row-level security on: at the start, or, in the mode `auto`, once there is a second project. Until then there
 * is nothing to keep apart, and the tables stay as they are.
 */
export class RowSecurity implements CallRole {
  readonly #database: Database;
  readonly #log: SwitchLog;
  #role: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #installing: Promise<void> | undefined;

  /** Throws a RowSecurityProblem in the mode `on`. */
  static async open(database: Database, mode: RowSecurityMode, log: SwitchLog): Promise<RowSecurity> {
    const security = new RowSecurity(database, log);
    if (mode === "on") await security.#install();
    if (mode === "auto" && !(await security.#installIfUseful())) security.#poll();
    return security;
  }

  private constructor(database: Database, log: SwitchLog) {
    this.#database = database;
    this.#log = log;
  }

  get role(): string | undefined {
    return this.#role;
  }

  /** Ends the looking for a second project. */
  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#installing?.catch(() => {});
  }

  async #install(): Promise<void> {
    this.#role = await installRowSecurity(this.#database);
    this.#log.info(`Row-level security is on: calls run under the role ${this.#role}`);
  }

  /** Whether the question is settled: it is on, or cannot be. */
  async #installIfUseful(): Promise<boolean> {
    if (!(await hasProjects(this.#database.pool, this.#database.tables))) return false;
    try {
      await (this.#installing ??= this.#install());
    } catch (error) {
      if (!(error instanceof RowSecurityProblem)) throw error;
      this.#log.warn(
        `Row-level security is off, so the service alone keeps projects apart. ${messageOf(error)}. ${error.remedy}`,
      );
    }
    return true;
  }

  #poll(): void {
    const look = async () => {
      // After a failure, such as of the connection, it looks again.
      const isSettled = await this.#installIfUseful().catch(() => {
        this.#installing = undefined;
        return false;
      });
      if (!isSettled && this.#timer !== undefined) this.#poll();
    };
    this.#timer = setTimeout(() => void look(), POLL_MS).unref();
  }
}

/** Whether there is a project beside `default`. */
export async function hasProjects(queryable: Queryable, tables: Tables): Promise<boolean> {
  const { rows } = await queryable.query<{ found: boolean }>(
    `select exists (select from ${tables.projects} where id <> 'default') as found`,
  );
  return rows[0]?.found === true;
}
