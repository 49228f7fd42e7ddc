import type pg from "pg";
import type { ServerConfig } from "./connection/servers.ts";
import type { Tables } from "./tables.ts";

/** One checked-out connection, for statements that belong together: a transaction, session settings. */
export type Client = pg.PoolClient;

/** Where a statement can run: the pool (any connection) or a client (one particular connection). */
export type Queryable = pg.Pool | Client;

/** What is known of the Citus cluster that the database is the coordinator of. */
export interface Citus {
  /** Whether the index worker distributes the tables that it makes. */
  distributes: boolean;
}

/** Where a server listens. */
export interface ServerAddress {
  host: string;
  port: number;
}

/** Connections to another server that has the database, with the same user, password, TLS and session settings. */
export interface OtherServer {
  /** As many connections as the pool of the database has. */
  pool: pg.Pool;
  /** Whether the server gives and answers a new connection, within 2 s each; rejects with the reason when it does not. */
  ask(): Promise<void>;
  /** As `Database.close`. */
  close(withinMs?: number): Promise<void>;
}

/** An open database: the first argument of every capability. */
export interface Database {
  pool: pg.Pool;
  /**
   * A pool of two connections for health checks and lease renewal, so that neither waits for a connection of
   * the exhausted main pool: readiness would fail, and files in processing would lose their leases.
   */
  probe: pg.Pool;
  /** Read replicas for searches; undefined: none is configured. */
  replicas?: Replicas | undefined;
  tables: Tables;
  kind: "postgres" | "embedded";
  /**
   * How background work connects, past a PgBouncer, whose transaction pooling cannot hold session locks.
   * Undefined for the embedded database and when only a PgBouncer's URL is known.
   */
  direct?: ServerConfig | undefined;
  /**
   * Opens connections to another server, lazily. `check` is given each new connection before it is used, and rejects for a
   * server that must not be used. Undefined where `direct` is.
   */
  openServer?:
    | ((address: ServerAddress, check: (client: pg.ClientBase) => Promise<void>) => OtherServer)
    | undefined;
  /**
   * Whether the URL says `pgbouncer=true`: sessions then have no start-up settings, and prepared statements
   * no names.
   */
  isBehindBouncer?: boolean | undefined;
  /**
   * Settings that a search must SET LOCAL: `SEARCH_SETTINGS` behind a PgBouncer, which drops start-up
   * settings; else none.
   */
  searchSettings?: Record<string, string | number> | undefined;
  /** The Citus cluster that the database is the coordinator of, as found at start; undefined: there is none. */
  citus?: Citus | undefined;
  /** Names the database in the log, without the password. */
  description: string;
  /**
   * The schema from `?schema=` of the URL; `migrate` creates it if it is missing. Undefined: the role's
   * default schema.
   */
  schema: string | undefined;
  /**
   * Waits for the clients in use to be released, at most `withinMs` (default 3 s), then closes every connection.
   * The embedded database has no such limit.
   */
  close(withinMs?: number): Promise<void>;
}

/** The read replicas of a database. */
export interface Replicas {
  /** The state of each replica, in the order of the URLs. */
  states(): ReplicaState[];
  /**
   * The healthy replica with the fewest reads in flight, round robin among equals; undefined: no replica is
   * healthy.
   */
  choose(): Replica | undefined;
  /**
   * Calls `listener` with each replica's state after its first check, and whenever it becomes healthy or
   * unhealthy.
   */
  watch(listener: (state: ReplicaState) => void): void;
  /** Checks every replica now. */
  check(): Promise<void>;
  close(withinMs?: number): Promise<void>;
}

/** The state of a read replica by its last check. */
export interface ReplicaState {
  /** Such as `PostgreSQL at db-2:5432, database vectors`; without the password. */
  description: string;
  /** Why searches do not use the replica, such as "is 7.2 s behind"; undefined: they do. */
  problem: string | undefined;
  /** Upper bound of the replication lag in milliseconds; undefined: unknown. */
  lagMs: number | undefined;
  /** Reads that run on the replica. */
  inFlight: number;
}

/** A read replica that searches can use. */
export interface Replica {
  /**
   * Runs `read` on the replica. Resolves to undefined when the read failed for a reason of the replica
   * (connection lost, recovery conflict, a table not yet replicated), so that the caller falls back to the
   * primary; other errors are rethrown. The signal passed to `read` aborts when the caller's signal does or a
   * check loses the replica.
   */
  run<T>(
    read: (replica: Database, signal: AbortSignal) => Promise<T>,
    signal: AbortSignal,
  ): Promise<{ value: T } | undefined>;
}
