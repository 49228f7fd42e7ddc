import pg from "pg";
import { BOUNCER_HINT, isAway } from "./errors.ts";

const REMEDY =
  "Check that the server runs, that its address in DATABASE_URL is right, and that no firewall is in between.";

/** By SQLSTATE, when there is a server and it refuses. */
const REMEDIES: Record<string, string> = {
  "28P01":
    "Set the right user and password in DATABASE_URL, with every character that is no letter or digit percent-encoded.",
  "28000": "Allow the role, the database and this machine's address in the server's pg_hba.conf.",
  "3D000": "Make the database: create database …; or name another in DATABASE_URL.",
  "53300": "Raise max_connections, or lower DATABASE_POOL_MAX of what uses the server.",
};

/** What to do about a connection that could not be made; undefined where the error is about something else. */
export function findRemedy(error: unknown): string | undefined {
  // Newer versions of PgBouncer say "unsupported startup parameter in options: …".
  if (error instanceof Error && error.message.startsWith("unsupported startup parameter"))
    return BOUNCER_HINT;
  const code = error instanceof pg.DatabaseError ? error.code : undefined;
  return REMEDIES[code ?? ""] ?? (isAway(error) ? REMEDY : undefined);
}
