import pg from "pg";
import { BOUNCER_HINT, isAway } from "./errors.ts";

const REMEDY =
  "Check that the server runs, that its address in DATABASE_URL is right, and that no firewall is in between.";

/** Remedies by SQLSTATE, for a server that answers and refuses the connection. */
const REMEDIES: Record<string, string> = {
  "28P01":
    "Set the right user and password in DATABASE_URL, with every character that is no letter or digit percent-encoded.",
  "28000": "Allow the role, the database and this machine's address in the server's pg_hba.conf.",
  "3D000": "Create the database (create database …;) or name another one in DATABASE_URL.",
  "53300": "Raise max_connections, or lower DATABASE_POOL_MAX of the services that use the server.",
};

/** The remedy for a connection that failed; undefined when the error is not about connecting. */
export function findRemedy(error: unknown): string | undefined {
  // PgBouncer's message; newer versions write "unsupported startup parameter in options: …".
  if (error instanceof Error && error.message.startsWith("unsupported startup parameter"))
    return BOUNCER_HINT;
  const code = error instanceof pg.DatabaseError ? error.code : undefined;
  return REMEDIES[code ?? ""] ?? (isAway(error) ? REMEDY : undefined);
}
