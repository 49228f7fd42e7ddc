import pg from "pg";
import { BoundedPool } from "./bounded-pool.ts";
import type { Database, OtherServer, ServerAddress } from "../database.ts";
import { openEmbedded } from "../embedded/embedded.ts";
import { Servers, type ServerConfig } from "./servers.ts";
import { LIMIT_MARGIN_MS, type SilenceOptions } from "./silence.ts";
import { SEARCH_SETTINGS } from "../search-settings.ts";
import type { Tables } from "../tables.ts";
import { cancellable, checkSchema, guardWrites } from "../transaction.ts";
import { UnnamedClient } from "./unnamed-client.ts";
import { readServers, replaceServer, splitQuery } from "./url.ts";

/** The address of the database, and the limits of its connections and statements. */
export interface DatabaseOptions {
  /**
   * A Postgres URL, which may name several servers, and may have Prisma's query parameters. Undefined: the
   * embedded database.
   */
  url?: string | undefined;
  /**
   * URL of the same Postgres without PgBouncer in between, for background work; default: `url`, unless that
   * has `pgbouncer=true`.
   */
  directUrl?: string | undefined;
  /** Directory of the embedded database; undefined: in memory, lost when the process ends. */
  directory?: string | undefined;
  /** Template of the embedded database: see `openEmbedded`. */
  template?: string | undefined;
  /** Schema for a URL that names none; undefined: the role's search_path. */
  schema?: string | undefined;
  tables: Tables;
  /**
   * Maximum number of connections; the URL's `connection_limit` has precedence. The embedded database has
   * one.
   */
  poolMax: number;
  /** Processes that share these connections; default 1. Each has at least two. */
  processes?: number;
  /**
   * Timeout for establishing a connection and for checking one out of the pool; the URL's `pool_timeout` or
   * `connect_timeout` has precedence, the larger of both.
   */
  connectTimeoutMs: number;
  /** `statement_timeout`. The embedded database does not enforce timeouts. */
  statementTimeoutMs: number;
}

/** Opens the database. Connects to Postgres lazily, so an unreachable server does not fail here. */
export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const { url, directory, template, tables, connectTimeoutMs } = options;
  if (url === undefined) {
    const { pool, close } = await openEmbedded({ directory, template, connectTimeoutMs });
    guardWrites(pool, tables);
    const description = `the embedded database ${directory === undefined ? "in memory" : `in ${directory}`}`;
    return { pool, probe: pool, tables, kind: "embedded", description, schema: undefined, close };
  }
  const { schema, config, silence } = readUrl(url, options);
  const isBouncer = silence.isBouncer === true;
  const pool = guardWrites(new BoundedPool(config, silence), tables);
  const probe = guardWrites(new BoundedPool({ ...config, max: 2 }, silence), tables);
  const { database } = new pg.Client(config);
  const description = `PostgreSQL at ${config.servers.description}, database ${database}`;
  const direct = readDirectUrl({ ...options, schema }, config.servers);
  const close = async (withinMs?: number) => {
    await Promise.all([pool.close(withinMs), probe.close(withinMs)]);
  };
  const searchSettings = isBouncer ? SEARCH_SETTINGS : undefined;
  return {
    pool,
    probe,
    tables,
    kind: "postgres",
    direct,
    openServer:
      direct === undefined
        ? undefined
        : (address, check) => openOther({ ...options, schema }, address, check),
    isBehindBouncer: isBouncer,
    searchSettings,
    description,
    schema,
    close,
  };
}

/**
 * Health check: resolves when the database answers within `timeoutMs`; rejects when it does not, when no
 * caller of the pool gets an answer, and with SCHEMA_MOVED when this process is too old to write.
 */
export async function ping(database: Database, timeoutMs: number): Promise<void> {
  if (database.pool instanceof BoundedPool && database.pool.isStuck)
    throw new Error("No caller gets an answer through the connections of the pool.");
  await cancellable(database.probe, AbortSignal.timeout(timeoutMs), (client) =>
    checkSchema(client, database.tables),
  );
}

/**
 * `client_connection_check_interval`: within this time the server cancels a statement whose client has
 * disconnected. Requires PostgreSQL 14 on Linux, macOS or BSD.
 */
const CONNECTION_CHECK_INTERVAL_MS = 500;
/**
 * Timeout of establishing a connection, shorter than that of waiting for one: after a failover, a connection that is still
 * being made to the old server keeps a place of the pool until then.
 */
const CONNECT_MS = 3_000;
/**
 * Idle time after which the operating systems of both sides probe a connection. Node sends ten probes, one a second, so
 * that a dead idle connection is found within 15 s.
 */
const KEEP_ALIVE_MS = 5_000;
/**
 * When the server gives up on a connection whose other side is silent: it holds the locks of the session, also that of the
 * index worker, until then. By default a server notices after two hours.
 */
const SERVER_KEEP_ALIVE =
  "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=20000";
/**
 * `idle_in_transaction_session_timeout`: a transaction idle for longer is a bug; it would hold locks, and its
 * xmin horizon would keep VACUUM from removing dead rows.
 */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000;

/**
 * Converts a URL to the settings of a pool. Prisma's query parameters have their meaning in Prisma
 * (prisma.io, "PostgreSQL database connector", "Arguments"); all others are passed to node-postgres.
 */
function readUrl(
  url: string,
  options: DatabaseOptions,
): { schema: string | undefined; config: ServerConfig; silence: SilenceOptions } {
  const { base, parameters, take } = splitQuery(url);
  const schema = take("schema") ?? options.schema;
  const poolMax = shareConnections(
    Number(take("connection_limit")) || options.poolMax,
    options.processes ?? 1,
  );
  const timeoutsSeconds = [take("pool_timeout"), take("connect_timeout")].map((value) => Number(value) || 0);
  const ownTimeoutMs = Math.max(...timeoutsSeconds) * 1000;
  const connectTimeoutMs = ownTimeoutMs || options.connectTimeoutMs;
  const isBouncer = take("pgbouncer") === "true";
  // PgBouncer rejects start-up settings that it does not track, and does not apply those that it ignores to
  // the backends it assigns.
  const settings = isBouncer ? [] : sessionSettings(schema, options.statementTimeoutMs);
  // `sslmode` with libpq's meaning: `require` encrypts without verification, `verify-full` verifies
  // certificate and host name.
  if (take("sslaccept") === "strict") parameters.set("sslmode", "verify-full");
  if (parameters.has("sslmode")) parameters.set("uselibpqcompat", "true");
  const ownOptions = take("options");
  for (const name of ["socket_timeout", "statement_cache_size"]) take(name);
  const { urls, wanted } = readServers(parameters.size === 0 ? base : `${base}?${parameters.toString()}`);
  return {
    schema,
    silence: {
      isBouncer,
      // The operator's own options may allow a statement more time.
      limitMs:
        ownOptions?.includes("statement_timeout") === true
          ? undefined
          : options.statementTimeoutMs + LIMIT_MARGIN_MS,
      connectMs: ownTimeoutMs || Math.min(CONNECT_MS, connectTimeoutMs),
    },
    config: {
      connectionString: urls[0],
      servers: new Servers(urls, wanted),
      application_name: "pgquiver",
      options: [...settings, ...(ownOptions === undefined ? [] : [ownOptions])].join(" "),
      max: poolMax,
      connectionTimeoutMillis: connectTimeoutMs,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
      ...(isBouncer ? { Client: UnnamedClient } : {}),
    },
  };
}

/** Connections that a process needs at least where several share the pool: one that is slow must not block all. */
const SHARE_MIN = 2;

function shareConnections(poolMax: number, processes: number): number {
  return processes === 1 ? poolMax : Math.max(SHARE_MIN, Math.floor(poolMax / processes));
}

/**
 * Settings of background connections, which override those of the URL, the role and the database. Statements
 * have no timeout, because index builds take hours. But `lock_timeout` is 2 s: while a statement waits for an
 * ACCESS EXCLUSIVE lock, every later statement on the table queues behind it. 2 s is more than
 * `deadlock_timeout` (1 s), after which an autovacuum that blocks the lock is cancelled.
 */
const BACKGROUND_LIMITS = "-c statement_timeout=0 -c idle_session_timeout=0 -c lock_timeout=2000";
/** The `lock_timeout` of background connections, in the format of `current_setting`. */
export const BACKGROUND_LOCK_TIMEOUT = "2s";

/** Settings of background connections; undefined when the only URL leads through PgBouncer. */
function readDirectUrl(options: DatabaseOptions, servers: Servers): ServerConfig | undefined {
  const url = options.directUrl ?? options.url ?? "";
  if (options.directUrl === undefined && /[?&]pgbouncer=true(?:&|$)/.test(url)) return undefined;
  const { config } = readUrl(url, options);
  if (url === options.url) config.servers = servers;
  // If `options` sets a parameter twice, the last value applies.
  return {
    ...config,
    options: `${config.options} ${BACKGROUND_LIMITS}`,
    application_name: "pgquiver background",
  };
}

/** Timeouts of establishing a connection to another server, and of asking it for one: its work can be done elsewhere. */
const OTHER_CONNECT_MS = 2_000;

/** Opens connections to another server, with what the URL past a PgBouncer says of user, database and TLS. */
function openOther(
  options: DatabaseOptions,
  address: ServerAddress,
  check: (client: pg.ClientBase) => Promise<void>,
): OtherServer {
  const url = replaceServer(options.directUrl ?? options.url ?? "", address);
  const { config, silence } = readUrl(url, { ...options, connectTimeoutMs: OTHER_CONNECT_MS });
  const servers = new Servers([config.connectionString ?? ""], "any", check);
  const own = { ...config, servers };
  const pool = new BoundedPool(own, silence);
  return {
    pool,
    close: (withinMs) => pool.close(withinMs),
    async ask() {
      const limits = { connectionTimeoutMillis: OTHER_CONNECT_MS, query_timeout: OTHER_CONNECT_MS };
      const { client } = await servers.connect({ ...own, ...limits });
      // Not awaited: on a silent connection the end never comes.
      void client.end().catch(() => {});
    },
  };
}

/** Session settings, in the syntax of the start-up parameter `options`. */
function sessionSettings(schema: string | undefined, statementTimeoutMs: number): string[] {
  // `public` is in the search_path because extensions usually create their types there. In `options` spaces
  // separate arguments and backslashes escape them.
  const path =
    schema === undefined
      ? []
      : [`-c search_path=${pg.escapeIdentifier(schema).replace(/[\s\\]/g, "\\$&")},public`];
  return [
    ...path,
    `-c statement_timeout=${statementTimeoutMs}`,
    `-c idle_in_transaction_session_timeout=${IDLE_IN_TRANSACTION_TIMEOUT_MS}`,
    SERVER_KEEP_ALIVE,
    `-c client_connection_check_interval=${CONNECTION_CHECK_INTERVAL_MS}`,
    ...Object.entries(SEARCH_SETTINGS).map(([name, value]) => `-c ${name}=${value}`),
  ];
}
