import { findingsOr, ok, type Finding, type Subject } from "./finding.ts";
import { alterSystem, readRole, readSettings } from "./settings.ts";

/** The oldest supported Postgres: 14 added client_connection_check_interval. */
const SERVER_VERSION_MIN = 140_000;

/** Checks that Postgres is recent enough. */
export async function checkServerVersion({ client }: Subject): Promise<Finding[]> {
  const { rows } = await client.query<{ number: number; version: string }>(
    `select current_setting('server_version_num')::int as number, current_setting('server_version') as version`,
  );
  const [server] = rows as [{ number: number; version: string }];
  if (server.number >= SERVER_VERSION_MIN) return ok(`PostgreSQL ${server.version}.`);
  const message = `PostgreSQL ${server.version} is too old: the service needs 14 or later.`;
  return [{ severity: "error", message, remedy: "Upgrade PostgreSQL." }];
}

/** Checks that the server is a primary and not read-only. */
export async function checkWritable({ client }: Subject): Promise<Finding[]> {
  const { rows } = await client.query<{ replica: boolean; read_only: string }>(
    `select pg_is_in_recovery() as replica, reset_val as read_only
     from pg_settings where name = 'default_transaction_read_only'`,
  );
  const [state] = rows;
  if (state?.replica === true) {
    const message = "The database is a replica, which takes no writes.";
    const remedy = "Set DATABASE_URL to the primary, and DATABASE_REPLICA_URLS to this one.";
    return [{ severity: "error", message, remedy }];
  }
  if (state?.read_only === "on") {
    const message = "default_transaction_read_only is on: transactions are read-only, and every write fails.";
    return [{ severity: "error", message, remedy: alterSystem("default_transaction_read_only", "off") }];
  }
  return ok("The database takes writes.");
}

/** Checks that the database's encoding is UTF8, so that every text can be stored. */
export async function checkEncoding({ client }: Subject): Promise<Finding[]> {
  const { rows } = await client.query<{ encoding: string }>(
    "select pg_encoding_to_char(encoding) as encoding from pg_database where datname = current_database()",
  );
  const encoding = String(rows[0]?.encoding);
  if (encoding === "UTF8") return ok("The database's encoding is UTF8.");
  const message = `The database's encoding is ${encoding}, which lacks most characters: texts that contain them are refused.`;
  const remedy = "Move to a database created by: create database … encoding 'UTF8' template template0;";
  return [{ severity: "error", message, remedy }];
}

/** Checks the settings that acknowledged writes need to survive a crash of the server. */
export async function checkDurability(subject: Subject): Promise<Finding[]> {
  const settings = await readSettings(subject, ["fsync", "full_page_writes", "synchronous_commit"]);
  const isOff = (name: string) => settings.get(name)?.value === "off";
  const findings: Finding[] = [];
  if (isOff("fsync")) {
    const message = "fsync is off: a crash of the machine can destroy the whole database.";
    findings.push({ severity: "error", message, remedy: alterSystem("fsync", "on") });
  }
  if (isOff("full_page_writes")) {
    const message =
      "full_page_writes is off: a crash of the machine can destroy pages, except on a file system like ZFS.";
    findings.push({ severity: "warning", message, remedy: alterSystem("full_page_writes", "on") });
  }
  if (isOff("synchronous_commit")) {
    const message =
      "synchronous_commit is off: rows acknowledged within the last second before a crash can be lost.";
    // Set for the role: of server, database and role the role's setting takes precedence.
    const remedy = `alter role ${await readRole(subject)} set synchronous_commit = on; and a restart of the service.`;
    findings.push({ severity: "warning", message, remedy });
  }
  return findingsOr(findings, "Acknowledged writes survive a crash.");
}

/**
 * Ages that are reported. Transaction ids are 32 bits: about 3 million before 2^31 in use (wraparound),
 * Postgres refuses all writes.
 */
const TRANSACTIONS_WARNING = 500_000_000;
const TRANSACTIONS_ERROR = 1_500_000_000;

/** Checks that vacuum freezes old rows in time, far from transaction id wraparound. */
export async function checkTransactionIds({ client }: Subject): Promise<Finding[]> {
  const { rows } = await client.query<{ age: number; multixacts: number }>(
    `select age(datfrozenxid) as age, mxid_age(datminmxid) as multixacts
     from pg_database where datname = current_database()`,
  );
  const age = Math.max(rows[0]?.age ?? 0, rows[0]?.multixacts ?? 0);
  const number = age.toLocaleString("en");
  if (age < TRANSACTIONS_WARNING) return ok(`The oldest transaction id is ${number} transactions old.`);
  return [
    {
      severity: age < TRANSACTIONS_ERROR ? "warning" : "error",
      message: `The oldest transaction id is ${number} transactions old; at 2,100 million all writes are refused.`,
      remedy:
        "End what holds back vacuum (old transactions, prepared transactions, replication slots), then run: vacuum (freeze);",
    },
  ];
}

/** A larger clock skew shows in expiry times and in the timestamps of rows. */
const CLOCK_SKEW_MAX_MS = 2_000;

/** Compares the server's clock with this process's clock, allowing for half of the round trip. */
export async function checkClock({ client }: Subject): Promise<Finding[]> {
  const askedAt = Date.now();
  const { rows } = await client.query<{ ms: string }>(
    "select round(extract(epoch from clock_timestamp()) * 1000)::text as ms",
  );
  const answeredAt = Date.now();
  const skewMs = Math.round(Number(rows[0]?.ms) - (askedAt + answeredAt) / 2);
  if (Math.abs(skewMs) <= CLOCK_SKEW_MAX_MS + (answeredAt - askedAt) / 2)
    return ok("The clocks of the database and of this process agree.");
  const message = `The database's clock is ${Math.abs(skewMs / 1000).toFixed(1)} s ${skewMs > 0 ? "ahead of" : "behind"} this process's.`;
  return [{ severity: "warning", message, remedy: "Synchronise both machines by NTP." }];
}
