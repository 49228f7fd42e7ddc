import { hostname, userInfo } from "node:os";
import { parseArgs } from "node:util";
import { createKey } from "./access/create-key.ts";
import { listKeys, revokeKey } from "./access/keys.ts";
import { findProject } from "./access/projects.ts";
import { readNewKey } from "./access/request.ts";
import { makeIdentifier } from "./api/identifier.ts";
import { SCOPE_WORDS } from "./api/scope.ts";
import { insertEntries } from "./audit/rows.ts";
import { readConfig } from "./config.ts";
import { messageOf } from "./errors.ts";
import { openConfigured } from "./postgres/connection/open.ts";
import type { Database } from "./postgres/database.ts";
import { migrate } from "./postgres/migrations/migrate.ts";
import { transaction } from "./postgres/transaction.ts";
import { DEFAULT_PROJECT } from "./store-id.ts";

const USAGE = `Makes, lists and revokes API keys in the database of DATABASE_URL, without a running service.

  npm run keys -- create --name NAME --scopes SCOPES|all [--project ID] [--stores IDS] [--days DAYS]
      [--certificate SUBJECT]
  npm run keys -- list [--project ID]
  npm run keys -- revoke ID [--project ID]

SCOPES: of ${SCOPE_WORDS.join(", ")}, comma-separated. --project: default '${DEFAULT_PROJECT}'.
IDS: the only stores that the key can use. DAYS: after which it expires.
SUBJECT: makes no key, but gives the rights to holders of client certificates: a URI, or CN= and a name. Details: docs/projects.md.
`;

/** Most keys that are listed. */
const LISTED_MAX = 1_000;

function readArguments() {
  return parseArgs({
    args: process.argv.slice(3),
    allowPositionals: true,
    options: {
      name: { type: "string", default: "" },
      scopes: { type: "string", default: "" },
      project: { type: "string", default: DEFAULT_PROJECT },
      stores: { type: "string", default: "" },
      days: { type: "string" },
      certificate: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
}

type Options = ReturnType<typeof readArguments>["values"];

async function main(): Promise<string> {
  const { values: options, positionals } = readArguments();
  const [command, id] = positionals;
  if (options.help || command === undefined) return USAGE;
  const { database: settings } = readConfig(process.env);
  const database = await openConfigured(settings);
  try {
    await migrate(database);
    switch (command) {
      case "create":
        return await create(database, options);
      case "list":
        return await list(database, options.project);
      case "revoke":
        return await revoke(database, options.project, id ?? "");
      default:
        throw new Error(`Unknown command '${command}'.\n\n${USAGE}`);
    }
  } finally {
    await database.close();
  }
}

async function create(database: Database, options: Options): Promise<string> {
  const { project: projectId, name, scopes, stores, days, certificate } = options;
  const everything = SCOPE_WORDS.filter((word) => projectId === DEFAULT_PROJECT || word !== "operator");
  const asked = readNewKey({
    projectId,
    name,
    scopes: scopes === "all" ? everything : split(scopes),
    storeIds: split(stores),
    ...(certificate !== undefined && { certificateSubject: certificate }),
    ...(days !== undefined && { expiresInSeconds: BigInt(Math.round(Number(days) * 86_400)) }),
  });
  const project = await findProject(database.pool, database.tables, projectId);
  if (project === undefined) throw new Error(`No project found with id '${projectId}'.`);
  const { row, value } = await createKey(database, project, asked);
  await record(database, "api_key.created", projectId, row.id, { scopes: row.scopes });
  if (value === undefined)
    return `Holders of certificates of '${certificate}' have the rights of ${row.id} of the project '${projectId}'.\n`;
  return `${value}\n\nThe key ${row.id} of the project '${projectId}'. It is shown this once: keep it.\n`;
}

async function list({ pool, tables }: Database, projectId: string): Promise<string> {
  const page = { rowsMax: LISTED_MAX, descending: true, backward: false };
  const rows = await listKeys(pool, tables, projectId, page);
  const lines = rows.map(({ id, redacted, name, scopes, certificate_subject: subject, ...row }) =>
    [
      id,
      subject ?? redacted,
      name,
      scopes.join(","),
      `expires ${row.expires_at?.toISOString() ?? "never"}`,
      `last used ${row.last_used_at?.toISOString() ?? "never"}`,
    ].join("  "),
  );
  return rows.length === 0 ? `The project '${projectId}' has no keys.\n` : `${lines.join("\n")}\n`;
}

async function revoke(database: Database, projectId: string, id: string): Promise<string> {
  const { pool, tables } = database;
  if (!(await transaction(pool, (client) => revokeKey(client, tables, projectId, id))))
    throw new Error(`The project '${projectId}' has no key with the id '${id}'.`);
  await record(database, "api_key.deleted", projectId, id, {});
  return `Revoked ${id}: every process refuses it within a second.\n`;
}

/** Records in the audit log what was done from the command line, by the user of the operating system. */
async function record(
  { pool, tables }: Database,
  event: string,
  projectId: string,
  resourceId: string,
  data: Record<string, unknown>,
): Promise<void> {
  const { id, createdAt: at } = makeIdentifier("audit");
  const who = { address: hostname(), userAgent: userInfo().username, forwardedFor: null, actorId: null };
  const how = { requestId: id, rpc: "keys", protocol: "cli", outcome: "ok", count: 1 };
  const entry = { id, at, event, projectId, resourceId, data, ...who, ...how };
  await transaction(pool, (client) => insertEntries(client, tables, [entry]));
}

function split(words: string): string[] {
  return words
    .split(",")
    .map((word) => word.trim())
    .filter((word) => word !== "");
}

try {
  process.stdout.write(await main());
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`);
  process.exitCode = 1;
}
