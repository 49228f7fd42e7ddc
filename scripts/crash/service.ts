import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** The service in a child process. */
export interface Service {
  /** Such as `127.0.0.1:49152`. */
  address: string;
  process: ChildProcess;
  /** Log lines of internal errors. */
  faults: string[];
  /** Sends the signal and waits until the process has exited. */
  end: (signal: "SIGKILL" | "SIGTERM") => Promise<void>;
}

/** Starts the service on a free port and waits until it listens. */
export async function startService(environment: Record<string, string>): Promise<Service> {
  // With this variable the databases of tests are clusters.
  const cluster = process.env["TEST_CITUS_URL"] === undefined ? {} : { CITUS: "auto" };
  const child = spawn(process.execPath, ["src/main.ts"], {
    cwd: ROOT,
    // What is tried here is not the model, which would take most of the time.
    env: { PORT: "0", EMBEDDING__MODEL: "lexical", ...cluster, ...environment },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(child, "close");
  const faults: string[] = [];
  const listening = Promise.withResolvers<string>();
  createInterface(child.stdout).on("line", (line) => {
    const { level, msg } = JSON.parse(line) as { level: number; msg: string };
    const address = /^Listening on http:\/\/(\S+)/.exec(msg)?.[1];
    if (address !== undefined) listening.resolve(address);
    if (level >= 50) faults.push(line);
  });
  void ended.then(() => listening.reject(new Error("The service ended before it listened.")));
  return {
    address: await listening.promise,
    process: child,
    faults,
    async end(signal) {
      child.kill(signal);
      await ended;
    },
  };
}

/** A service that restarts when it is killed; with a hot spare, a process started in advance, at once. */
export class ServicePair implements AsyncDisposable {
  readonly #environment: Record<string, string>;
  /**
   * False on the embedded database, which only one process can open, and where Postgres itself is being
   * crashed.
   */
  readonly #hasSpare: boolean;
  #current: Promise<Service>;
  #spare: Promise<Service> | undefined;
  /** Log lines of internal errors of processes that have exited. */
  readonly #faults: string[] = [];

  constructor(environment: Record<string, string>, hasSpare: boolean) {
    this.#environment = environment;
    this.#hasSpare = hasSpare;
    this.#current = startService(environment);
    // Sequentially: the first process may have to run the migrations.
    if (hasSpare) this.#spare = this.#current.then(() => startService(environment));
  }

  /** Resolves to the service's address once it listens. */
  async address(): Promise<string> {
    return (await this.#current).address;
  }

  /** Kills the service (SIGKILL), which then restarts. */
  async kill(): Promise<void> {
    const killed = await this.#current;
    const ended = killed.end("SIGKILL");
    const started = this.#spare ?? ended.then(() => startService(this.#environment));
    this.#current = started;
    this.#spare = undefined;
    this.#faults.push(...killed.faults);
    await ended;
    await started;
    if (this.#hasSpare) this.#spare = startService(this.#environment);
  }

  /** Log lines of internal errors of all processes so far. */
  async faults(): Promise<string[]> {
    return [...this.#faults, ...(await this.#current).faults];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const started of [this.#current, this.#spare]) await (await started)?.end("SIGTERM");
  }
}
