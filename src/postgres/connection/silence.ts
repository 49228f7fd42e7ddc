import pg from "pg";
import { QueryWithSettings } from "../protocol/with-settings.ts";
import { isAway, isReadOnly } from "../errors.ts";
import type { ServerConfig } from "./servers.ts";

/** How patient a pool is with a server that does not answer. */
export interface SilenceOptions {
  /**
   * Limit in milliseconds to the wait for the end of a statement: the server's own `statement_timeout` plus a
   * margin. Undefined: none, for work in the background whose statements may run for hours.
   */
  limitMs: number | undefined;
  /** Timeout in milliseconds of establishing a connection. */
  connectMs: number;
  /** Whether the server that answers is a PgBouncer, whose backend pids are not those of the server. */
  isBouncer?: boolean;
}

/** Added to `statement_timeout`: the server's own error for a statement that took too long comes first. */
export const LIMIT_MARGIN_MS = 5_000;

/** Interval at which the connections are looked at. */
const TICK_MS = 500;
/** A statement that takes longer is asked for on a new connection, then again after twice that time, and so on. */
const SUSPICIOUS_MS = 2_000;
/** Timeout of that question: to connect, and to get the answer. */
const ASK_TIMEOUT_MS = 2_000;
/** Statements that have taken this long are given up on when so many questions in a row cannot be asked. */
const UNREACHABLE_MS = 8_000;
const UNREACHABLE_ASKS = 3;

/** The server, or the network to it, has gone silent. The code makes `isAway` true, so callers see UNAVAILABLE. */
class SilentError extends Error {
  readonly code = "ETIMEDOUT";
}

/**
 * Finds connections that have gone silent without a reset: packets are dropped, or the server's machine is
 * gone. TCP itself notices after a quarter of an hour, since Node cannot set TCP_USER_TIMEOUT. So a new
 * connection is opened, and asked whether the backends of statements that take long are still at work. The
 * connection of a backend that is gone or idle is destroyed, and its statement fails with UNAVAILABLE. After
 * a failover, the same address leads to another server, or another of the URL's addresses leads to the new
 * primary: it has none of these backends.
 */
export class SilenceWatch {
  readonly #config: ServerConfig;
  readonly #options: SilenceOptions;
  readonly #clients = new Set<WatchedClient>();
  #timer: NodeJS.Timeout | undefined;
  #isAsking = false;
  #failures = 0;
  #heardAt = performance.now();

  constructor(config: ServerConfig, options: SilenceOptions) {
    this.#config = config;
    this.#options = options;
  }

  /** Time of the last answer to any statement, by `performance.now()`. */
  get heardAt(): number {
    return this.#heardAt;
  }

  /** A class of clients that this watch looks after, for the option `Client` of a pool. */
  clientClass(Base: typeof pg.Client): typeof pg.Client {
    const added = (client: WatchedClient) => this.#add(client);
    const heard = () => (this.#heardAt = performance.now());
    const { connectMs } = this.#options;
    const { servers } = this.#config;
    return class extends Base implements WatchedClient {
      declare readonly processID: number | null;
      readonly server: number;
      sentAt: number | undefined;
      askAfterMs = SUSPICIOUS_MS;
      timeoutMs: number | undefined;

      constructor(config?: pg.ClientConfig) {
        const server = servers.next;
        super({ ...config, ...servers.addressOf(server), connectionTimeoutMillis: connectMs });
        this.server = server;
        // Before node-postgres' own listener, which submits the next statement.
        this.connection.on("readyForQuery", () => {
          this.sentAt = undefined;
          heard();
        });
        this.connection.on("errorMessage", (error: unknown) => {
          if (isReadOnly(error)) servers.leave(server);
        });
        added(this);
      }

      // pg-pool always gives a callback.
      override connect(...[callback]: never[]): never {
        const done = callback as unknown as (error: Error | null) => void;
        const fail = (error: Error | null) => {
          // Before the pool makes the next connection.
          if (error !== null) servers.fail(this.server, error);
          done(error);
        };
        return super.connect(fail) as never;
      }

      // As in unnamed-client.ts: the arguments are passed on unchanged.
      override query(...parameters: never[]): never {
        if (this.sentAt === undefined) {
          this.sentAt = performance.now();
          this.askAfterMs = SUSPICIOUS_MS;
          if (this.getTransactionStatus() === "I") this.timeoutMs = undefined;
        }
        this.timeoutMs = readTimeout(parameters[0]) ?? this.timeoutMs;
        return super.query(...(parameters as unknown as Parameters<pg.Client["query"]>)) as never;
      }

      destroy(error: Error): void {
        const { stream } = this.connection as unknown as { stream: { destroy: (error: Error) => void } };
        stream.destroy(error);
      }
    };
  }

  /** Destroys every connection: statements in flight fail. */
  destroyAll(): void {
    for (const client of this.#clients) client.destroy(new SilentError("The connection was closed."));
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #add(client: WatchedClient): void {
    this.#clients.add(client);
    this.#timer ??= setInterval(() => this.#look(), TICK_MS).unref();
    client.once("end", () => {
      this.#clients.delete(client);
      if (this.#clients.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    });
  }

  #look(): void {
    const now = performance.now();
    const suspects: Suspect[] = [];
    for (const client of this.#clients) {
      const { sentAt, timeoutMs } = client;
      if (sentAt === undefined) continue;
      const limitMs = timeoutMs === undefined ? this.#options.limitMs : timeoutMs + LIMIT_MARGIN_MS;
      if (limitMs !== undefined && now - sentAt > limitMs)
        client.destroy(new SilentError(`The database has not answered within ${Math.round(limitMs)} ms.`));
      else if (now - sentAt > client.askAfterMs) suspects.push({ client, sentAt });
    }
    if (suspects.length > 0 && !this.#isAsking) void this.#question(suspects);
  }

  async #question(suspects: Suspect[]): Promise<void> {
    this.#isAsking = true;
    try {
      const lost = await this.#findLost(suspects.map(({ client }) => client));
      this.#failures = 0;
      for (const { client, sentAt } of suspects) {
        if (client.sentAt !== sentAt) continue;
        if (lost.has(client))
          client.destroy(new SilentError("The connection to the database has gone silent."));
        client.askAfterMs = 2 * (performance.now() - sentAt);
      }
    } catch (error) {
      // A server that refuses a connection, such as with 53300 (too_many_connections), is not silent.
      this.#failures = isAway(error) && !(error instanceof pg.DatabaseError) ? this.#failures + 1 : 0;
      if (this.#failures >= UNREACHABLE_ASKS && this.#options.limitMs !== undefined) this.#giveUp(suspects);
    } finally {
      this.#isAsking = false;
    }
  }

  #giveUp(suspects: Suspect[]): void {
    const now = performance.now();
    for (const { client, sentAt } of suspects)
      if (client.sentAt === sentAt && now - sentAt > UNREACHABLE_MS)
        client.destroy(new SilentError("The database does not answer, and cannot be reached."));
  }

  /** The clients whose server was left, or whose backend is gone or has answered a second ago or earlier. */
  async #findLost(clients: WatchedClient[]): Promise<Set<WatchedClient>> {
    const { servers } = this.#config;
    const asker: { client: pg.Client & { readonly processID?: number | null }; server: number } =
      await servers.connect({
        ...this.#config,
        connectionTimeoutMillis: ASK_TIMEOUT_MS,
        query_timeout: ASK_TIMEOUT_MS,
        application_name: "pgquiver watch",
      });
    try {
      const left = clients.filter(({ server }) => server !== asker.server);
      if (this.#options.isBouncer === true) return new Set(left);
      const { rows } = await asker.client.query<{ own: number; working: number[] }>(
        `select pg_backend_pid() as own, coalesce(array_agg(pid), '{}') as working from pg_stat_activity
         where pid = any($1::int[])
           and not coalesce(state like 'idle%' and state_change < clock_timestamp() - interval '1 second', false)`,
        [clients.map(({ processID }) => processID)],
      );
      // Through a pooler the pid of the connection is the pooler's invention.
      if (rows[0]?.own !== asker.client.processID) return new Set(left);
      const working = new Set<number | null>(rows[0]?.working);
      return new Set([...left, ...clients.filter(({ processID }) => !working.has(processID))]);
    } finally {
      // Not awaited: on a silent connection the end never comes.
      void asker.client.end().catch(() => {});
    }
  }
}

/** A client with what the watch knows of it. */
export interface WatchedClient extends pg.Client {
  /** Position of its server among those of the URL. */
  readonly server: number;
  /** When the statement in flight was sent, by `performance.now()`; undefined: none is in flight. */
  sentAt: number | undefined;
  /** Age of the statement from which on the server is asked about it. */
  askAfterMs: number;
  /** `statement_timeout` of the transaction, where it was set for it; 0: none. */
  timeoutMs: number | undefined;
  readonly processID: number | null;
  destroy: (error: Error) => void;
}

interface Suspect {
  client: WatchedClient;
  sentAt: number;
}

/**
 * Reads the timeout of a `QueryWithSettings`, or of `set local statement_timeout = <milliseconds>`; 0, which is
 * no limit, as Infinity.
 */
function readTimeout(query: unknown): number | undefined {
  if (query instanceof QueryWithSettings) return toLimit(query.statementTimeoutMs);
  if (typeof query !== "string") return undefined;
  return toLimit(/^set local statement_timeout = (\d+)/.exec(query)?.[1]);
}

function toLimit(timeout: string | number | undefined): number | undefined {
  return timeout === undefined ? undefined : Number(timeout) || Infinity;
}
