import type pg from "pg";
import { messageOf } from "../../errors.ts";
import type { Database, Replica, ReplicaState, Replicas } from "../database.ts";
import { isAway, isReplicaFault } from "../errors.ts";
import { openDatabase, type DatabaseOptions } from "../connection/pool.ts";
import { cancellable } from "../transaction.ts";
import { WalClock } from "./wal-clock.ts";

/** How to connect to the replicas, and when they are healthy. */
export interface ReplicaOptions extends Pick<
  DatabaseOptions,
  "tables" | "poolMax" | "processes" | "statementTimeoutMs"
> {
  /** Postgres URLs, in the form of `DatabaseOptions.url`. */
  urls: readonly string[];
  /** Maximum replication lag in milliseconds; a replica further behind is not used. */
  lagMaxMs: number;
}

/** Short, so that a read soon falls back to another replica or the primary. */
const CONNECT_TIMEOUT_MS = 2_000;
/**
 * A replica that does not answer a health check within this time is unhealthy, and its running reads are
 * aborted.
 */
const CHECK_TIMEOUT_MS = 2_000;
/** Upper bound of the health check interval, which is otherwise a quarter of the allowed lag. */
const CHECK_INTERVAL_MAX_MS = 1_000;

/**
 * Opens read replicas and checks their health periodically; none is used before its first check. Replication
 * lag is measured without any privilege: a history of the primary's WAL positions (LSN) is kept with the time
 * each was read, and the newest position that a replica has replayed bounds how old its data is.
 */
export async function openReplicas(
  primary: Pick<Database, "probe" | "schema">,
  { urls, lagMaxMs, ...options }: ReplicaOptions,
): Promise<Replicas> {
  const clock = new WalClock();
  let listener: (state: ReplicaState) => void = () => {};
  const connect = { ...options, schema: primary.schema, connectTimeoutMs: CONNECT_TIMEOUT_MS };
  const open = async (url: string) => {
    const database = await openDatabase({ ...connect, url });
    return new WatchedReplica(database, lagMaxMs, clock, (state) => listener(state));
  };
  const replicas = await Promise.all(urls.map(open));
  const check = async () => {
    const takenAt = performance.now();
    // Primary unreachable: without a new WAL position the measured lag grows, and the replicas become
    // unhealthy.
    await ask(primary, readWritten).then(
      (position) => clock.record(position, takenAt),
      () => {},
    );
    await Promise.all(replicas.map((replica) => replica.check()));
  };
  void check();
  const timer = setInterval(() => void check(), Math.min(CHECK_INTERVAL_MAX_MS, lagMaxMs / 4)).unref();
  let turn = 0;
  return {
    states: () => replicas.map(({ state }) => ({ ...state })),
    choose() {
      const fit = replicas.filter(({ state }) => state.problem === undefined);
      const fewest = Math.min(...fit.map(({ state }) => state.inFlight));
      const idlest = fit.filter(({ state }) => state.inFlight === fewest);
      return idlest[turn++ % idlest.length];
    },
    watch(given) {
      listener = given;
      for (const { state } of replicas) if (state.problem !== UNCHECKED) given({ ...state });
    },
    check,
    async close(withinMs?: number) {
      clearInterval(timer);
      listener = () => {};
      await Promise.all(replicas.map((replica) => replica.close(withinMs)));
    },
  };
}

/** A read replica and its health. */
class WatchedReplica implements Replica {
  readonly state: ReplicaState;
  readonly #database: Database;
  readonly #lagMaxMs: number;
  readonly #clock: WalClock;
  readonly #changed: (state: ReplicaState) => void;
  /** Aborts running reads when a check fails; replaced by a new controller when a check succeeds again. */
  #lost = new AbortController();
  #checking: Promise<void> | undefined;

  constructor(database: Database, lagMaxMs: number, clock: WalClock, changed: (state: ReplicaState) => void) {
    const { description } = database;
    this.state = { description, problem: UNCHECKED, lagMs: undefined, inFlight: 0 };
    this.#database = database;
    this.#lagMaxMs = lagMaxMs;
    this.#clock = clock;
    this.#changed = changed;
  }

  async run<T>(
    read: (replica: Database, signal: AbortSignal) => Promise<T>,
    signal: AbortSignal,
  ): Promise<{ value: T } | undefined> {
    const lost = this.#lost.signal;
    this.state.inFlight++;
    try {
      return { value: await read(this.#database, AbortSignal.any([signal, lost])) };
    } catch (error) {
      if (signal.aborted || !(lost.aborted || isReplicaFault(error))) throw error;
      // Marks the replica unhealthy until the next check.
      if (isAway(error)) this.#settle(`failed: ${messageOf(error)}`);
      return undefined;
    } finally {
      this.state.inFlight--;
    }
  }

  /** Checks the replica now; concurrent callers share one check. */
  check(): Promise<void> {
    return (this.#checking ??= this.#look().finally(() => (this.#checking = undefined)));
  }

  async close(withinMs?: number): Promise<void> {
    await this.#database.close(withinMs);
  }

  async #look(): Promise<void> {
    try {
      const { replayed, readsSecondaries } = await ask(this.#database, readReplayed);
      this.state.lagMs = replayed === undefined ? undefined : this.#clock.age(replayed);
      if (this.#lost.signal.aborted) this.#lost = new AbortController();
      const problem = readsSecondaries ? READS_SECONDARIES : this.#explainLag();
      this.#settle(replayed === undefined ? NO_REPLICA : problem);
    } catch (error) {
      this.state.lagMs = undefined;
      this.#settle(`cannot be reached: ${messageOf(error)}`);
      this.#lost.abort(error);
    }
  }

  #explainLag(): string | undefined {
    const { lagMs } = this.state;
    if (lagMs === undefined)
      return "lags by an unknown time: it has replayed no WAL position that this service has recorded";
    return lagMs > this.#lagMaxMs ? `is ${(lagMs / 1000).toFixed(1)} s behind` : undefined;
  }

  #settle(problem: string | undefined): void {
    const { problem: before } = this.state;
    const isChange = (problem === undefined) !== (before === undefined) || before === UNCHECKED;
    this.state.problem = problem;
    if (isChange) this.#changed({ ...this.state });
  }
}

const UNCHECKED = "was not checked yet";
const NO_REPLICA = "is not a replica: it was promoted, or its URL belongs to another server";
const READS_SECONDARIES =
  "reads the standbys of a cluster's workers, which may lack acknowledged rows (citus.use_secondary_nodes): set it to never";

async function ask<T>(
  { probe }: Pick<Database, "probe">,
  read: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  return cancellable(probe, AbortSignal.timeout(CHECK_TIMEOUT_MS), read);
}

/** The primary's current WAL position (LSN), as a number of bytes. */
async function readWritten(client: pg.PoolClient): Promise<bigint> {
  const result = await client.query<{ position: string }>(
    "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') as position",
  );
  return BigInt(result.rows[0]?.position ?? 0);
}

/**
 * The WAL position that a replica has replayed, as a number of bytes; undefined when the server is not in
 * recovery. And whether its searches of tables on workers of a Citus cluster go to standbys of these: no version tells how far
 * such a standby is.
 */
async function readReplayed(
  client: pg.PoolClient,
): Promise<{ replayed: bigint | undefined; readsSecondaries: boolean }> {
  const { rows } = await client.query<{ position: string | null; readsSecondaries: boolean }>(
    `select case when pg_is_in_recovery() then coalesce(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), 0) end
       as position, coalesce(current_setting('citus.use_secondary_nodes', true), '') = 'always' as "readsSecondaries"`,
  );
  const { position = null, readsSecondaries = false } = rows[0] ?? {};
  return { replayed: position === null ? undefined : BigInt(position), readsSecondaries };
}
