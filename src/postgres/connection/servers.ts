import pg from "pg";
import { isAway } from "../errors.ts";

/** The values of libpq's `target_session_attrs` that are understood. */
export const SESSION_KINDS = ["any", "read-write", "read-only", "primary", "standby"] as const;

/** Which servers a connection is wanted to. */
export type SessionKind = (typeof SESSION_KINDS)[number];

/** Whether a word is a `SessionKind`. */
export function isSessionKind(word: string): word is SessionKind {
  return (SESSION_KINDS as readonly string[]).includes(word);
}

/** How to connect to a database. */
export interface ServerConfig extends pg.PoolConfig {
  servers: Servers;
}

/** A server that is not of the wanted kind. The code makes `isAway` true: another server may be. */
class UnfitServerError extends Error {
  readonly code = "EHOSTUNREACH";
}

/**
 * The servers of one URL, of which all connections use the same one: the first, in the order of the URL, that
 * can be reached and is of the wanted kind. That server is remembered, so that a new connection tries no dead
 * server first. When a new connection to it fails, or finds that it was demoted, the servers after it are
 * tried. Pools of the same URL share this object.
 */
export class Servers {
  readonly #urls: readonly string[];
  readonly #wanted: SessionKind;
  readonly #check: (client: pg.ClientBase) => Promise<void>;
  /** The server to which the next connection is made. */
  #next = 0;
  /** The server of the last connection that was good; undefined: none yet, and none since a demotion. */
  #chosen: number | undefined;

  /** `check` is given each new connection before it is used, and rejects for a server that must not be used. */
  constructor(
    urls: readonly string[],
    wanted: SessionKind,
    check: (client: pg.ClientBase) => Promise<void> = async () => {},
  ) {
    this.#urls = urls;
    this.#wanted = wanted;
    this.#check = check;
  }

  get count(): number {
    return this.#urls.length;
  }

  /** Position of the server to which the next connection is made. */
  get next(): number {
    return this.#next;
  }

  /** Their hosts and ports, for the log. */
  get description(): string {
    return this.#urls.map((_, server) => this.#nameOf(server)).join(" or ");
  }

  /** The setting of node-postgres that leads to a server. */
  addressOf(server: number): { connectionString: string | undefined } {
    return { connectionString: this.#urls[server] };
  }

  /** Whether a connection to `server` is to be closed, since it is not the chosen one, or not any more. */
  isLeft(server: number): boolean {
    return this.#chosen !== server;
  }

  /** Whether a connection to another server may succeed after this error. */
  isElsewhere(error: unknown): boolean {
    if (this.count === 1) return false;
    // A server that is full or refuses the password is the right one all the same.
    if (error instanceof pg.DatabaseError) return error.code?.startsWith("57P0") === true;
    return isAway(error);
  }

  /** Notes that a connection to `server` failed, so that the next is made to another. */
  fail(server: number, error: unknown): void {
    if (this.#next === server && this.isElsewhere(error)) this.#next = (server + 1) % this.count;
  }

  /** Notes that `server` takes no writes any more: every connection to it is closed, or verified anew. */
  leave(server: number): void {
    if (this.#chosen !== server) return;
    this.#chosen = undefined;
    this.#next = (server + 1) % this.count;
  }

  /** Verifies that a new connection leads to a server of the wanted kind, which is then the chosen one. */
  async verify(client: pg.ClientBase, server: number): Promise<void> {
    try {
      if (this.#wanted !== "any") await this.#requireKind(client, server);
      await this.#check(client);
    } catch (error) {
      this.fail(server, error);
      throw error;
    }
    this.#chosen = server;
    this.#next = server;
  }

  /** Connects a client outside of the pools to a server of the wanted kind. The caller ends the client. */
  async connect(config: pg.ClientConfig): Promise<{ client: pg.Client; server: number }> {
    const first = this.#next;
    for (let tries = 1; ; tries++) {
      const server = (first + tries - 1) % this.count;
      const client = new pg.Client({ ...config, ...this.addressOf(server) });
      client.on("error", () => {});
      try {
        await client.connect();
        await this.verify(client, server);
        return { client, server };
      } catch (error) {
        void client.end().catch(() => {});
        this.fail(server, error);
        if (tries >= this.count || !this.isElsewhere(error)) throw error;
      }
    }
  }

  async #requireKind(client: pg.ClientBase, server: number): Promise<void> {
    const { rows } = await client.query<{ standby: boolean; readOnly: boolean }>(
      `select pg_is_in_recovery() as standby, current_setting('transaction_read_only') = 'on' as "readOnly"`,
    );
    const { standby = false, readOnly = false } = rows[0] ?? {};
    const isFit = {
      any: true,
      "read-write": !readOnly,
      "read-only": readOnly,
      primary: !standby,
      standby,
    }[this.#wanted];
    if (isFit) return;
    const kind = standby ? "a standby" : readOnly ? "a read-only primary" : "a primary that takes writes";
    throw new UnfitServerError(
      `The server at ${this.#nameOf(server)} is ${kind}, and target_session_attrs is ${this.#wanted}`,
    );
  }

  #nameOf(server: number): string {
    const { host, port } = new pg.Client(this.addressOf(server));
    return `${host}:${port}`;
  }
}
