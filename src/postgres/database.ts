import type pg from "pg";
import type { Tables } from "./tables.ts";

/** One connection, for as long as several statements belong together. */
export type Client = pg.PoolClient;

/** What a statement can be sent to: the pool for one statement, a client for several that belong together. */
export type Queryable = pg.Pool | Client;

/** An open database: what the capabilities get as their first argument. */
export interface Database {
  pool: pg.Pool;
  /**
   * Two more connections, for what must not wait for others: a pool that is merely busy is no reason to take the
   * service out, or to lose the files it processes.
   */
  probe: pg.Pool;
  /** Where searches may go as well; undefined: nowhere. */
  replicas?: Replicas | undefined;
  tables: Tables;
  kind: "postgres" | "embedded";
  /** How to connect for work in the background, past a PgBouncer; undefined where that is not possible or needless. */
  direct?: pg.ClientConfig | undefined;
  /** Whether the URL says `pgbouncer=true`: sessions have no settings, and statements no names. */
  isBehindBouncer?: boolean | undefined;
  /** Settings that searches need and that connections do not have by themselves: none, or `SEARCH_SETTINGS` behind a PgBouncer. */
  searchSettings?: Record<string, string | number> | undefined;
  /** Which database it is, for the log; without the password. */
  description: string;
  /** The schema named by `?schema=` of the URL, to be created if it is missing. */
  schema: string | undefined;
  /** Waits for the clients in use to be released, then closes every connection. */
  close(): Promise<void>;
}

/** The replicas of a database. */
export interface Replicas {
  /** What is known of each, in the order of their URLs. */
  states(): ReplicaState[];
  /** The replica with the fewest reads in flight, in turn where there are several; undefined: none is fit for use. */
  choose(): Replica | undefined;
  /** Has `listener` told how each replica is, as soon as that is known, and when it becomes fit for use or no longer is. */
  watch(listener: (state: ReplicaState) => void): void;
  /** Looks at every replica now. */
  check(): Promise<void>;
  close(): Promise<void>;
}

/** What is known of a replica. */
export interface ReplicaState {
  /** Such as `PostgreSQL at db-2:5432, database vectors`; without the password. */
  description: string;
  /** Why it is not used, such as "is 7.2 s behind"; undefined: it is. */
  problem: string | undefined;
  /** How old its state is at most; undefined: unknown. */
  lagMs: number | undefined;
  /** Reads that run on it. */
  inFlight: number;
}

/** A replica that reads can be sent to. */
export interface Replica {
  /**
   * Runs `read` on the replica. Undefined: the replica failed where the primary may not, so that the primary should
   * be asked; other errors are passed on. The signal that `read` gets aborts with the caller's, and when the replica
   * is lost meanwhile.
   */
  run<T>(
    read: (replica: Database, signal: AbortSignal) => Promise<T>,
    signal: AbortSignal,
  ): Promise<{ value: T } | undefined>;
}
