import { fork, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { renice } from "../../api/concurrency/renice.ts";
import { unavailable } from "../../errors.ts";
import type { Answer, Sum } from "./messages.ts";

/** Timeout of the start and of a request; generous, for a machine under heavy load. */
const TIMEOUT_MS = 60_000;

/** The process ends after this time without a request, and frees 360 MB. */
const IDLE_MS = 10 * 60_000;

/** Characters kept from the end of the process's stderr, for the log. */
const STDERR_CHARS_MAX = 8_000;

/** A process that runs a model, and the answer that is waited for. */
interface Running {
  child: ChildProcess;
  asked: PromiseWithResolvers<readonly Sum[]> | undefined;
  stderr: string;
}

/**
 * A model of sentences in a process of its own: a text takes tens of milliseconds of CPU time, for which the event loop
 * of the service must not stand still. The process starts with the first request, and again after it ended.
 */
export class EncoderProcess {
  readonly #description: string;
  readonly #program: string;
  readonly #args: readonly string[];
  #running: Promise<Running> | undefined;
  /** The child that was started last. */
  #child: ChildProcess | undefined;
  #idle: NodeJS.Timeout | undefined;

  /** `description`: the model's, for errors; `program`: what the process runs, and its arguments. */
  constructor(description: string, program: URL, args: readonly string[] = []) {
    this.#description = description;
    this.#program = fileURLToPath(program);
    this.#args = args;
  }

  /**
   * Encodes texts, of a few thousand characters in all; one call at a time. Resolves to a sum of vectors for each text.
   * Throws UNAVAILABLE when the process fails; the next call starts another.
   */
  async encode(texts: readonly string[]): Promise<readonly Sum[]> {
    clearTimeout(this.#idle);
    const running = await (this.#running ??= this.#start());
    const answer = this.#await(running);
    running.child.send({ texts });
    const sums = await answer;
    this.#idle = setTimeout(() => this.#end(running, "It was idle."), IDLE_MS).unref();
    return sums;
  }

  async #start(): Promise<Running> {
    const child = fork(this.#program, this.#args, {
      env: {},
      execArgv: ["--no-warnings"],
      serialization: "advanced",
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    const running: Running = { child, asked: undefined, stderr: "" };
    this.#child = child;
    renice(child);
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      running.stderr = (running.stderr + text).slice(-STDERR_CHARS_MAX);
    });
    (child.stderr as unknown as { unref(): void } | null)?.unref();
    child.on("message", (answer: Answer) => {
      if ("sums" in answer) running.asked?.resolve(answer.sums);
      else running.asked?.reject(this.#failed(answer.error));
    });
    child.on("error", (error) => this.#end(running, error));
    child.on("exit", (code, signal) =>
      this.#end(running, `It ended with ${signal ?? `exit code ${code}`}. ${running.stderr}`),
    );
    // It says that it is ready.
    await this.#await(running);
    return running;
  }

  /** Waits for an answer. The process and its channel keep this process alive meanwhile, and only then. */
  async #await(running: Running): Promise<readonly Sum[]> {
    const { child } = running;
    running.asked = Promise.withResolvers();
    const timer = setTimeout(() => this.#end(running, "It did not answer in time."), TIMEOUT_MS);
    child.ref();
    child.channel?.ref();
    try {
      return await running.asked.promise;
    } finally {
      clearTimeout(timer);
      running.asked = undefined;
      child.unref();
      child.channel?.unref();
    }
  }

  #end({ child, asked }: Running, cause: unknown): void {
    if (this.#child === child) this.#running = undefined;
    asked?.reject(this.#failed(cause));
    child.kill("SIGKILL");
  }

  #failed(cause: unknown): Error {
    return unavailable("EMBEDDING_PROVIDER_UNAVAILABLE", `${this.#description} failed.`, {
      retryAfterMs: 1_000,
      // The log shows the message of an error.
      cause: typeof cause === "string" ? new Error(cause.trim()) : cause,
    });
  }
}
