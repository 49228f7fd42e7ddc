import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";

/** Releases of PostgreSQL that scripts/native-postgres.sh starts. */
const VERSIONS = [18, 17];

/**
 * Finds how to run one of PostgreSQL's programs: of a release that is installed, or of the system that
 * scripts/native-postgres.sh bootstrapped. pg_dump refuses servers newer than itself.
 */
export function findPostgresProgram(name: string): string[] | undefined {
  const cache =
    process.env["PGQUIVER_CACHE"] ??
    join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "pgquiver");
  for (const version of VERSIONS) {
    const path = `/usr/lib/postgresql/${version}/bin/${name}`;
    if (existsSync(path)) return [path];
    const root = join(cache, "trixie");
    if (existsSync(join(root, path))) return ["chroot", root, path];
  }
  const { status, stdout } = spawnSync(name, ["--version"], { encoding: "utf8" });
  return status === 0 && Number(/ (\d+)/.exec(stdout)?.[1]) >= Math.min(...VERSIONS) ? [name] : undefined;
}

/** Copies a database into an empty one as a backup does: by pg_dump's custom format, and pg_restore. */
export async function dumpAndRestore(from: string, to: string): Promise<void> {
  const run = (name: string, ...args: string[]) => {
    const [command = name, ...prefix] = findPostgresProgram(name) ?? [];
    return spawn(command, [...prefix, ...args], { stdio: ["pipe", "pipe", "pipe"] });
  };
  const dump = run("pg_dump", "--format", "custom", from);
  const restore = run("pg_restore", "--exit-on-error", "--dbname", to);
  dump.stdin.end();
  dump.stdout.pipe(restore.stdin);
  restore.stdout.resume();
  const faults = Promise.all([text(dump.stderr), text(restore.stderr)]);
  const statuses = await Promise.all([once(dump, "close"), once(restore, "close")]);
  if (statuses.some(([status]) => status !== 0)) throw new Error((await faults).join("\n"));
}
