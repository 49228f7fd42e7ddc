import { fork, type ChildProcess } from "node:child_process";
import { Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { renice } from "../api/concurrency/renice.ts";
import { invalidFile, readerFailed, type DocumentError } from "./error.ts";
import { findReader, PERMISSIONS, residentBytes, type Isolation } from "./isolation.ts";
import type { Answer, Request } from "./messages.ts";

/** Start timeout of a process; generous, for a machine under heavy load. */
const START_TIMEOUT_MS = 60_000;

/** The program of a reading process: arguments of Node. */
const PROGRAM: readonly [string, ...string[]] = [fileURLToPath(new URL("./child.ts", import.meta.url))];

/**
 * Stack size in KiB. The HTML converter is recursive, and some generated pages nest elements thousands deep,
 * which overflows Node's default stack. Four times that default, half of Linux' limit for a process (8 MiB).
 */
const STACK_KIB = 4_000;

/** Memory of a process before it reads a file: Node, the tokenizer and the PDF library. */
const BASE_BYTES = 134_217_728;

/** Interval at which the memory of a working process is measured; it may grow by 100 MB in between. */
const MEASURE_INTERVAL_MS = 50;

/**
 * A process that still holds more than this part of its memory limit after a file is replaced, not reused.
 */
const REUSE_MEMORY_MAX = 0.5;

/** Characters kept from the end of a process's stderr, for the log. */
const STDERR_CHARS_MAX = 8_000;

/** What V8 writes before it aborts because its heap is full. */
const HEAP_IS_FULL = "out of memory";

/**
 * A sandboxed child process that reads files, one at a time: empty environment, Node's permission model, what
 * the operating system isolates (`isolation.ts`), limits on memory and time. The limits are watched from this
 * process, since a hostile file can keep every thread of its process busy, and may replace its code.
 *
 * Not a worker thread, because a hostile file could end the whole service: in Node 24 a thread whose Map or
 * array exceeds the thread's heap limit aborts the process (SIGABRT), and no thread limit counts buffers.
 */
export class ReadingProcess {
  /** Resolves when the process has exited and its pipes are closed. */
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;
  readonly #memoryBytes: number;
  readonly #ready: Promise<Answer>;
  #asked: PromiseWithResolvers<Answer> | undefined;
  /** Milliseconds left for the start, or for the file in progress. */
  #timeLeftMs = START_TIMEOUT_MS;
  #failure: { error: unknown } | undefined;
  #isReusable = true;
  #stderr = "";
  /** The pid of Node, which differs from the child's where a launcher stays; undefined without /proc. */
  #pid: number | undefined;

  /** Starts a process with a limit on its resident memory. */
  constructor(memoryBytes: number, isolation: Isolation, program = PROGRAM) {
    this.#memoryBytes = memoryBytes;
    const heapMb = Math.floor(Math.max(memoryBytes - BASE_BYTES, memoryBytes / 2) / 1_048_576);
    const [execPath, ...execArgv] = [
      ...isolation.launcher,
      process.execPath,
      ...PERMISSIONS,
      "--no-warnings",
      `--max-old-space-size=${heapMb}`,
      `--stack-size=${STACK_KIB}`,
    ];
    const [script, ...args] = program;
    this.#child = fork(script, args, {
      execPath: execPath as string,
      execArgv,
      env: {},
      serialization: "advanced",
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    renice(this.#child);
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
    this.#ready = this.#waitForAnswer(() => readerFailed("The reading process did not start in time."));
    if (isolation.isMemoryMeasured)
      void this.#ready.then(
        () => this.#findPid(),
        () => {},
      );
    // Prevents an unhandled rejection: the first `ask` awaits this promise and reports the failure.
    this.#ready.catch(() => {});
  }

  /** The pid of Node, seen from here; undefined until the process is ready, and where there is no /proc. */
  get pid(): number | undefined {
    return this.#pid;
  }

  /** Whether the process has finished its file and may read another one. */
  get isReusable(): boolean {
    return this.#isReusable && this.#failure === undefined;
  }

  /**
   * Sends a request and resolves to its answer; one request at a time. `timeoutMs`: working time for this
   * request and those that follow, until it is set again. Throws a DocumentError, or the error passed to
   * `kill`. Running out of time is an `invalid_file`: a retry would take as long.
   */
  async ask(request: Request, timeoutMs?: number): Promise<Answer> {
    await this.#ready;
    if (this.#failure !== undefined) throw this.#failure.error;
    this.#isReusable = false;
    if (timeoutMs !== undefined) this.#timeLeftMs = timeoutMs;
    const answer = this.#waitForAnswer(() => invalidFile("The file takes too long to read."));
    this.#child.send(request, (error) => {
      if (error !== null) this.kill(readerFailed("The reader of files failed.", error));
    });
    return answer;
  }

  /**
   * Kills the process (SIGKILL). The pending `ask` and every later one rejects with `error`, that of the
   * first `kill`.
   */
  kill(error: unknown = readerFailed("Reading the file was cancelled.")): void {
    this.#failure ??= { error };
    this.#asked?.reject(this.#failure.error);
    this.#child.kill("SIGKILL");
    this.#child.ref();
    // Node may end a moment after its launcher: `ended` waits for its end of the pipe as well.
    if (this.#child.stderr instanceof Socket) this.#child.stderr.ref();
  }

  #findPid(): void {
    try {
      this.#pid = findReader(this.#child.pid as number);
    } catch {
      // Without the list of its children the launcher itself is measured, which is Node where none stays.
      this.#pid = this.#child.pid;
    }
  }

  #measure(): void {
    const bytes = this.#pid === undefined ? undefined : residentBytes(this.#pid);
    if (bytes !== undefined && bytes > this.#memoryBytes) this.kill(tooMuchMemory());
  }

  #take(answer: Answer): void {
    if ("rssBytes" in answer) this.#isReusable = answer.rssBytes < this.#memoryBytes * REUSE_MEMORY_MAX;
    this.#asked?.resolve(answer);
  }

  /**
   * Waits for an answer. Refs the child and its channel meanwhile: an idle child must not keep this process
   * alive.
   */
  async #waitForAnswer(explainLate: () => DocumentError): Promise<Answer> {
    const startedAt = performance.now();
    const timer = setTimeout(() => this.kill(explainLate()), this.#timeLeftMs);
    const measuring = setInterval(() => this.#measure(), MEASURE_INTERVAL_MS);
    this.#asked = Promise.withResolvers();
    this.#child.ref();
    this.#child.channel?.ref();
    try {
      return await this.#asked.promise;
    } finally {
      clearTimeout(timer);
      clearInterval(measuring);
      this.#timeLeftMs = Math.max(0, this.#timeLeftMs - (performance.now() - startedAt));
      this.#asked = undefined;
      this.#child.unref();
      this.#child.channel?.unref();
    }
  }

  #explain(code: number | null, signal: NodeJS.Signals | null): DocumentError {
    if (signal === "SIGABRT" || this.#stderr.includes(HEAP_IS_FULL)) return tooMuchMemory(this.#stderr);
    return readerFailed(`The reading process ended with ${signal ?? `exit code ${code}`}.`, this.#stderr);
  }
}

function tooMuchMemory(cause?: string): DocumentError {
  return invalidFile("The file takes too much memory to read.", cause);
}
