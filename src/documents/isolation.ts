import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";

/** What holds for a reading process on this machine, beside Node's permission model. */
export interface Isolation {
  /** Whether the process runs as a user of its own (nobody), which only root can give it. */
  hasOwnUser: boolean;
  /** Whether the process has a network namespace without interfaces, so that it reaches nothing. */
  hasNoNetwork: boolean;
  /** Whether the kernel kills the process when this process ends, however it ends. */
  endsWithParent: boolean;
  /** Whether the resident memory of the process is measured from outside, with its buffers. */
  isMemoryMeasured: boolean;
  /** Programs that set this up and then execute Node: path and arguments. */
  readonly launcher: readonly string[];
}

const FOLDER = fileURLToPath(new URL("./", import.meta.url));
/** Node reads "type": "module" from here. */
const PACKAGE = fileURLToPath(new URL("../../package.json", import.meta.url));
/** The installed packages may be outside of the program's directory. */
const PACKAGES = createRequire(import.meta.url)
  .resolve("saxes")
  .replace(/(?<=node_modules.).*/, "");

/**
 * Flags of Node's permission model for a reading process. Allowed: to read the code of this folder and the
 * installed packages. Denied: to read other files, such as `.env` and the data directory, to write files, and
 * to start processes and threads (a thread would not inherit the restrictions), addons and WASI.
 * `disarm.ts` is loaded first.
 */
export const PERMISSIONS: readonly string[] = [
  "--permission",
  ...[FOLDER, PACKAGE, PACKAGES].map((path) => `--allow-fs-read=${path}`),
  "--import",
  new URL("./disarm.ts", import.meta.url).href,
];

/**
 * Memory that the kernel grants a process (RLIMIT_DATA), buffers included, where the measuring comes too late:
 * Node itself reserves 600 MB, most of which is never touched.
 */
const DATA_BYTES_MAX = 2_147_483_648;

/**
 * Processor time of a process where nothing ends it together with this process: bounds an endless loop that
 * was left behind. A process that reads many files may reach it as well; its file is then tried again.
 */
const CPU_SECONDS_MAX = 3_600;

/** Time that a program may take to show whether it works. */
const PROBE_TIMEOUT_MS = 10_000;

/** The user and group "nobody" of Linux: owner of no file. */
const NOBODY = "--reuid=65534 --regid=65534 --clear-groups".split(" ");

let found: Promise<Isolation> | undefined;

/** Finds the strongest isolation that works on this machine, by trying each once. */
export function findIsolation(): Promise<Isolation> {
  found ??= probeAll();
  return found;
}

/** Says in a sentence what holds and what does not. */
export function describeIsolation(isolation: Isolation): string {
  const { hasOwnUser, hasNoNetwork, endsWithParent, isMemoryMeasured } = isolation;
  return [
    hasOwnUser ? "as nobody" : "as the service's user",
    hasNoNetwork
      ? "without network or sight of other processes"
      : "their network is closed in JavaScript only",
    endsWithParent
      ? "killed when the service ends"
      : "an endless loop survives a killed service for up to an hour",
    isMemoryMeasured ? "all memory limited" : "only the JavaScript heap limited",
  ].join(", ");
}

async function probeAll(): Promise<Isolation> {
  const isolations = listIsolations();
  for (const isolation of isolations) if (await works(isolation)) return isolation;
  return isolations.at(-1) as Isolation;
}

/** Every isolation that the installed programs promise, the strongest first; the last needs no program. */
export function listIsolations(): Isolation[] {
  const [setpriv, unshare, prlimit] = ["setpriv", "unshare", "prlimit"].map(findProgram);
  const isolations: Isolation[] = [];
  const isMemoryMeasured = residentBytes(process.pid) !== undefined;
  // The code may lie where only root reads, so that root's service has to try without a user of its own, too.
  const users = process.getuid?.() === 0 ? [NOBODY, []] : [[]];
  for (const user of users) {
    if (setpriv === undefined || prlimit === undefined) break;
    const common = { hasOwnUser: user.length > 0, endsWithParent: true, isMemoryMeasured };
    const parent = [setpriv, ...user, "--pdeathsig", "KILL", "--no-new-privs", "--"];
    const limit = [prlimit, `--data=${DATA_BYTES_MAX}`, "--core=0", "--"];
    if (unshare !== undefined && isMemoryMeasured && canFindReader()) {
      // The user namespace takes all capabilities away, also from root; the PID namespace hides all other
      // processes, so that none can be signalled.
      const namespaces = [unshare, ..."--user --net --ipc --pid --fork --kill-child=KILL --".split(" ")];
      isolations.push({ ...common, hasNoNetwork: true, launcher: [...parent, ...namespaces, ...limit] });
    }
    isolations.push({ ...common, hasNoNetwork: false, launcher: [...parent, ...limit] });
  }
  const node = { hasOwnUser: false, hasNoNetwork: false, endsWithParent: false, isMemoryMeasured };
  const limit = `ulimit -c 0; ulimit -t ${CPU_SECONDS_MAX}; exec "$@"`;
  isolations.push({ ...node, launcher: ["/bin/sh", "-c", limit, "sh"] }, { ...node, launcher: [] });
  return isolations;
}

function findProgram(name: string): string | undefined {
  for (const folder of [...(process.env["PATH"] ?? "").split(delimiter), "/usr/bin", "/bin"]) {
    if (!isAbsolute(folder)) continue;
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** Whether Node starts by these programs, and can then still read its code: a namespace takes root's rights. */
async function works({ launcher }: Isolation): Promise<boolean> {
  const paths = JSON.stringify([join(FOLDER, "child.ts"), PACKAGE, PACKAGES]);
  const code = `for (const path of ${paths}) fs.accessSync(path, fs.constants.R_OK)`;
  const [command, ...args] = [...launcher, process.execPath, ...PERMISSIONS, "-e", code];
  const probe = spawn(command as string, args, {
    env: {},
    stdio: "ignore",
    timeout: PROBE_TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  try {
    const [status] = await once(probe, "close");
    return status === 0;
  } catch {
    return false;
  }
}

/** Whether a process in a PID namespace can be found, whose pid only the kernel's list of children tells. */
function canFindReader(): boolean {
  try {
    return findReader(process.pid) > 0;
  } catch {
    return false;
  }
}

/**
 * The pid of Node, seen from here, when a launcher was started as `pid`: that of its child where the launcher
 * stays (a PID namespace), else `pid`. Throws where there is no /proc.
 */
export function findReader(pid: number): number {
  const child = Number.parseInt(readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1"), 10);
  return Number.isNaN(child) ? pid : child;
}

/** Resident memory of a process, buffers included; undefined when it has ended, or where there is no /proc. */
export function residentBytes(pid: number): number | undefined {
  try {
    const kib = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
    return kib === undefined ? undefined : Number(kib) * 1024;
  } catch {
    return undefined;
  }
}
