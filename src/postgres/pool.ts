import pg from "pg";
import type { Database } from "./database.ts";
import { openEmbedded } from "./embedded/embedded.ts";
import { SEARCH_SETTINGS } from "./search-settings.ts";
import type { Tables } from "./tables.ts";
import { cancellable } from "./transaction.ts";
import { UnnamedClient } from "./unnamed-client.ts";
import { onConnect } from "./vector-types.ts";

/** Where the database is and how patient to be with it. */
export interface DatabaseOptions {
  /** A Postgres URL; Prisma's query parameters are understood. Undefined: the embedded database. */
  url?: string | undefined;
  /** The same Postgres without a PgBouncer in between, for work in the background; default: `url`, unless it says `pgbouncer=true`. */
  directUrl?: string | undefined;
  /** Directory of the embedded database; undefined: in memory, gone with the process. */
  directory?: string | undefined;
  /** The schema of a URL that names none; undefined: the role's own. */
  schema?: string | undefined;
  tables: Tables;
  /** Connections at most; the URL's `connection_limit` wins. The embedded database has one. */
  poolMax: number;
  /** How long to wait for a connection, new or pooled; the URL's `pool_timeout` or `connect_timeout` wins. */
  connectTimeoutMs: number;
  /** How long one statement may run. The embedded database does not enforce it. */
  statementTimeoutMs: number;
}

/** Opens the database. A Postgres is first connected to when it is first needed, so an absent one does not fail here. */
export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const { url, directory, tables } = options;
  if (url === undefined) {
    const { pool, close } = await openEmbedded({ directory, connectTimeoutMs: options.connectTimeoutMs });
    const description = `the embedded database ${directory === undefined ? "in memory" : `in ${directory}`}`;
    return { pool, probe: pool, tables, kind: "embedded", description, schema: undefined, close };
  }
  const { schema, config, isBouncer } = readUrl(url, options);
  const pool = openPool(config);
  const probe = openPool({ ...config, max: 2 });
  const { database, host, port } = new pg.Client(config);
  const description = `PostgreSQL at ${host}:${port}, database ${database}`;
  const direct = readDirectUrl({ ...options, schema });
  const close = async () => {
    await Promise.all([pool.end(), probe.end()]);
  };
  const searchSettings = isBouncer ? SEARCH_SETTINGS : undefined;
  return {
    pool,
    probe,
    tables,
    kind: "postgres",
    direct,
    isBehindBouncer: isBouncer,
    searchSettings,
    description,
    schema,
    close,
  };
}

function openPool(config: pg.PoolConfig): pg.Pool {
  const pool = new pg.Pool({ ...config, onConnect });
  // An idle connection that breaks is already out of the pool, and the statement that ran on a busy one rejects;
  // without a listener either event would end the process.
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  return pool;
}

/** Resolves when the database answers within `timeoutMs`; rejects when it does not. */
export async function ping(database: Database, timeoutMs: number): Promise<void> {
  await cancellable(database.probe, AbortSignal.timeout(timeoutMs), (client) => client.query("select 1"));
}

/** How soon the server stops a statement whose connection is gone. Needs PostgreSQL 14 on Linux, macOS or BSD. */
const CONNECTION_CHECK_INTERVAL_MS = 500;
/** A client that sits in a transaction longer than this is a fault: it would hold locks and hinder vacuum. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000;

/**
 * Turns the URL into a pool's settings. Prisma's parameters mean what they mean to Prisma; all others are left to
 * node-postgres. Reference: prisma.io, "PostgreSQL database connector", "Arguments".
 */
function readUrl(
  url: string,
  options: DatabaseOptions,
): { schema: string | undefined; config: pg.PoolConfig; isBouncer: boolean } {
  const [base = "", query = ""] = url.split("?", 2);
  const parameters = new URLSearchParams(query);
  const take = (name: string): string | undefined => {
    const value = parameters.get(name) ?? undefined;
    parameters.delete(name);
    return value;
  };
  const schema = take("schema") ?? options.schema;
  const poolMax = Number(take("connection_limit")) || options.poolMax;
  const timeoutsSeconds = [take("pool_timeout"), take("connect_timeout")].map((value) => Number(value) || 0);
  const connectTimeoutMs = Math.max(...timeoutsSeconds) * 1000 || options.connectTimeoutMs;
  const isBouncer = take("pgbouncer") === "true";
  // PgBouncer refuses a connection that asks for settings it does not track, and cannot keep those it would let pass.
  const settings = isBouncer ? [] : sessionSettings(schema, options.statementTimeoutMs);
  // TLS as libpq and Prisma understand it: `require` encrypts and does not verify, `verify-full` verifies.
  if (take("sslaccept") === "strict") parameters.set("sslmode", "verify-full");
  if (parameters.has("sslmode")) parameters.set("uselibpqcompat", "true");
  const ownOptions = take("options");
  for (const name of ["socket_timeout", "statement_cache_size"]) take(name);
  return {
    schema,
    isBouncer,
    config: {
      connectionString: parameters.size === 0 ? base : `${base}?${parameters.toString()}`,
      application_name: "pgquiver",
      options: [...settings, ...(ownOptions === undefined ? [] : [ownOptions])].join(" "),
      max: poolMax,
      connectionTimeoutMillis: connectTimeoutMs,
      keepAlive: true,
      ...(isBouncer ? { Client: UnnamedClient } : {}),
    },
  };
}

/**
 * The limits of work in the background, whatever the URL, the role or the database say: none to a statement's time, but
 * who keeps it waiting for a lock shall not keep all the others waiting too. An autovacuum gives way to who has waited for
 * `deadlock_timeout`, a second.
 */
const BACKGROUND_LIMITS = "-c statement_timeout=0 -c idle_session_timeout=0 -c lock_timeout=2000";
/** Their `lock_timeout` as Postgres shows it. */
export const BACKGROUND_LOCK_TIMEOUT = "2s";

/** The settings of connections for work in the background; undefined when all there is leads through a PgBouncer. */
function readDirectUrl(options: DatabaseOptions): pg.ClientConfig | undefined {
  const url = options.directUrl ?? options.url ?? "";
  if (options.directUrl === undefined && /[?&]pgbouncer=true(?:&|$)/.test(url)) return undefined;
  const { config } = readUrl(url, options);
  // Of two values for a setting the last one counts.
  return {
    ...config,
    options: `${config.options} ${BACKGROUND_LIMITS}`,
    application_name: "pgquiver background",
  };
}

/** The settings a session starts with, in the notation of the start-up parameter `options`. */
function sessionSettings(schema: string | undefined, statementTimeoutMs: number): string[] {
  // Types of an extension usually live in public. Spaces and backslashes separate and escape in `options`.
  const path =
    schema === undefined
      ? []
      : [`-c search_path=${pg.escapeIdentifier(schema).replace(/[\s\\]/g, "\\$&")},public`];
  return [
    ...path,
    `-c statement_timeout=${statementTimeoutMs}`,
    `-c idle_in_transaction_session_timeout=${IDLE_IN_TRANSACTION_TIMEOUT_MS}`,
    `-c client_connection_check_interval=${CONNECTION_CHECK_INTERVAL_MS}`,
    ...Object.entries(SEARCH_SETTINGS).map(([name, value]) => `-c ${name}=${value}`),
  ];
}
