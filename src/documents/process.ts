import { fork, type ChildProcess } from "node:child_process";
import { Socket } from "node:net";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { invalidFile, readerFailed, type DocumentError } from "./error.ts";
import { TOO_MUCH_MEMORY, type Answer, type Request } from "./messages.ts";

/** Time for a process to start, on a machine that is very busy. */
const START_TIMEOUT_MS = 60_000;

/** It may read this program and the packages it uses, wherever they are, and start the thread that watches it. */
const PERMISSIONS = [
  "--permission",
  "--allow-worker",
  `--allow-fs-read=${fileURLToPath(new URL("../../", import.meta.url))}`,
  `--allow-fs-read=${createRequire(import.meta.url)
    .resolve("saxes")
    .replace(/(?<=node_modules.).*/, "")}`,
];

/**
 * KiB of stack: pages of old tools nest their elements thousands deep, which the reader of HTML follows by recursion.
 * Four times Node's default, half of what Linux gives a process.
 */
const STACK_KIB = 4_000;

/** What a process takes before it reads anything: Node, the tokenizer and a PDF reader. */
const BASE_BYTES = 134_217_728;

/** The part of its memory that a process may still hold after a file to get another one. */
const REUSE_MEMORY_MAX = 0.5;

/** What is kept of the last words of a process. */
const STDERR_CHARS_MAX = 2_000;

/**
 * A process that reads files, one at a time: without an environment, and under Node's permission model.
 *
 * It is a process and not a thread because of what a hostile file can do: with Node 24 a thread whose Map or array
 * grows beyond its limit ends the whole service (SIGABRT), and no limit of a thread counts its buffers.
 */
export class ReadingProcess {
  /** Resolves when it is gone. */
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;
  readonly #memoryBytes: number;
  readonly #timeoutMs: number;
  readonly #ready: Promise<Answer>;
  #asked: PromiseWithResolvers<Answer> | undefined;
  /** Time that the start or the file in hand may still take. */
  #timeLeftMs = START_TIMEOUT_MS;
  #failure: { error: unknown } | undefined;
  #isReusable = true;
  #stderr = "";

  /** Starts a process that may hold `memoryBytes`, and may work on a file for `timeoutMs`. */
  constructor(memoryBytes: number, timeoutMs: number) {
    this.#memoryBytes = memoryBytes;
    this.#timeoutMs = timeoutMs;
    const heapMb = Math.floor(Math.max(memoryBytes - BASE_BYTES, memoryBytes / 2) / 1_048_576);
    this.#child = fork(new URL("./child.ts", import.meta.url), [String(memoryBytes)], {
      execArgv: [
        ...PERMISSIONS,
        "--no-warnings",
        `--max-old-space-size=${heapMb}`,
        `--stack-size=${STACK_KIB}`,
      ],
      env: {},
      serialization: "advanced",
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    const { stderr } = this.#child;
    stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_CHARS_MAX);
    });
    if (stderr instanceof Socket) stderr.unref();
    this.#child.on("message", (answer) => this.#take(answer as Answer));
    this.#child.on("error", (error) => this.kill(readerFailed("The reader of files failed.", error)));
    this.ended = new Promise((resolve) => {
      this.#child.on("close", (code, signal) => {
        this.kill(this.#explain(code, signal));
        resolve();
      });
    });
    this.#ready = this.#waitForAnswer(() => readerFailed("The reader of files did not start in time."));
    // It is told to whoever asks first.
    this.#ready.catch(() => {});
  }

  /** Whether it has ended its last file, and may read another one. */
  get isReusable(): boolean {
    return this.#isReusable && this.#failure === undefined;
  }

  /** The answer to a request, of which there may be one at a time. Throws a DocumentError, or what it was killed for. */
  async ask(request: Request): Promise<Answer> {
    await this.#ready;
    if (this.#failure !== undefined) throw this.#failure.error;
    this.#isReusable = false;
    if (request.kind === "read") this.#timeLeftMs = this.#timeoutMs;
    const answer = this.#waitForAnswer(() => invalidFile("The file takes too long to read."));
    this.#child.send(request, (error) => {
      if (error !== null) this.kill(readerFailed("The reader of files failed.", error));
    });
    return answer;
  }

  /** Ends it at once, whatever it does. Whoever waits for an answer is told `error`. The first one counts. */
  kill(error: unknown = readerFailed("The file was given up.")): void {
    this.#failure ??= { error };
    this.#asked?.reject(this.#failure.error);
    this.#child.kill("SIGKILL");
    this.#child.ref();
  }

  #take(answer: Answer): void {
    if ("rssBytes" in answer) this.#isReusable = answer.rssBytes < this.#memoryBytes * REUSE_MEMORY_MAX;
    this.#asked?.resolve(answer);
  }

  /** Keeps this process running meanwhile, which an idle one does not. */
  async #waitForAnswer(explainLate: () => DocumentError): Promise<Answer> {
    const startedAt = performance.now();
    const timer = setTimeout(() => this.kill(explainLate()), this.#timeLeftMs);
    this.#asked = Promise.withResolvers();
    this.#child.ref();
    this.#child.channel?.ref();
    try {
      return await this.#asked.promise;
    } finally {
      clearTimeout(timer);
      this.#timeLeftMs -= performance.now() - startedAt;
      this.#asked = undefined;
      this.#child.unref();
      this.#child.channel?.unref();
    }
  }

  #explain(code: number | null, signal: NodeJS.Signals | null): DocumentError {
    if (signal === TOO_MUCH_MEMORY || signal === "SIGABRT") {
      return invalidFile("The file takes too much memory to read.", this.#stderr);
    }
    return readerFailed(`The reader of files ended by ${signal ?? `code ${code}`}.`, this.#stderr);
  }
}
