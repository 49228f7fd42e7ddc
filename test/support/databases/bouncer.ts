import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const BINARY = "/usr/sbin/pgbouncer";

/** Whether PgBouncer is installed at the path of Debian's package. */
export const hasBouncer = existsSync(BINARY);

/** The user id of PgBouncer when the tests run as root: PgBouncer refuses to run as root. */
const NOBODY = 65_534;

/** Part of the Unix socket's name; PgBouncer listens on no TCP port. */
const PORT = 6432;

/** A PgBouncer in transaction mode, with two backends. */
export interface Bouncer extends AsyncDisposable {
  /** URL of the same database through PgBouncer. */
  url: string;
}

/**
 * Starts a PgBouncer in front of the server of `url`, on a Unix socket. `settings` are additional lines of
 * its configuration.
 */
export async function startBouncer(url: string, settings: readonly string[] = []): Promise<Bouncer> {
  const directory = await mkdtemp(join(tmpdir(), "pgquiver-bouncer-"));
  const file = join(directory, "pgbouncer.ini");
  await writeFile(file, describe(new URL(url), directory, settings));
  const isRoot = process.getuid?.() === 0;
  if (isRoot) await chown(directory, NOBODY, NOBODY);
  await chmod(file, 0o644);
  const bouncer = spawn(BINARY, [file], {
    stdio: ["ignore", "ignore", "pipe"],
    ...(isRoot ? { uid: NOBODY, gid: NOBODY } : {}),
  });
  await listening(bouncer);
  return {
    url: `postgresql://any@${encodeURIComponent(directory)}:${PORT}${new URL(url).pathname}`,
    async [Symbol.asyncDispose]() {
      bouncer.kill();
      if (bouncer.exitCode === null) await once(bouncer, "exit");
      await rm(directory, { recursive: true });
    },
  };
}

function describe(server: URL, directory: string, settings: readonly string[]): string {
  const { hostname, port, username, password, pathname } = server;
  const login = [
    `user=${decodeURIComponent(username)}`,
    ...(password === "" ? [] : [`password=${decodeURIComponent(password)}`]),
  ].join(" ");
  return [
    "[databases]",
    `${pathname.slice(1)} = host=${hostname} port=${port || 5432} ${login}`,
    "[pgbouncer]",
    "pool_mode = transaction",
    "default_pool_size = 2",
    "auth_type = any",
    "listen_addr =",
    `listen_port = ${PORT}`,
    `unix_socket_dir = ${directory}`,
    ...settings,
    "",
  ].join("\n");
}

/** Resolves when PgBouncer accepts connections. */
async function listening(bouncer: ChildProcess): Promise<void> {
  const said: string[] = [];
  if (bouncer.stderr === null) throw new Error("PgBouncer's log is not read.");
  for await (const line of createInterface(bouncer.stderr)) {
    said.push(line);
    if (line.includes("process up")) {
      bouncer.stderr.resume();
      return;
    }
  }
  throw new Error(`PgBouncer did not start:\n${said.join("\n")}`);
}
