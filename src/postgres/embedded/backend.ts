import type { PGlite } from "@electric-sql/pglite";
import { messageOf } from "../../errors.ts";
import { FullDiskError, LOG_SEGMENT_BYTES, readFreeBytes } from "./disk.ts";

/** Exit status with which the main loop ends when a statement fails (longjmp); PGlite handles that. */
const LONG_JUMP = 100;

/** The functions of PGlite's WebAssembly module that are used here. */
interface Module {
  _PostgresMainLoopOnce: () => void;
  stackRestore: (pointer: number) => void;
}

/** Directory of the database's files, and the disk space to keep free. */
interface BackendOptions {
  /** Undefined: in memory. */
  directory: string | undefined;
  diskReserveBytes: number;
}

/** PGlite: Postgres in WebAssembly, driven by messages of the Postgres wire protocol. */
export class Backend {
  readonly #pglite: PGlite;
  readonly #options: BackendOptions;
  #failure: Error | undefined;

  constructor(pglite: PGlite, options: BackendOptions) {
    this.#pglite = pglite;
    this.#options = options;
    this.#watch(pglite.Module as unknown as Module);
  }

  /** Whether the disk has at least `diskReserveBytes` free. */
  get hasRoom(): boolean {
    const { directory, diskReserveBytes } = this.#options;
    return directory === undefined || readFreeBytes(directory) >= diskReserveBytes;
  }

  /**
   * Executes messages synchronously, which blocks the thread, and returns the answers. Throws once Postgres
   * has panicked.
   */
  execute(messages: Buffer): Buffer {
    // After a panic the state in memory is undefined: executing more could corrupt the files.
    if (this.#failure !== undefined) throw this.#failure;
    return Buffer.from(this.#pglite.execProtocolRawSync(messages));
  }

  /**
   * Shuts Postgres down with a checkpoint. Does nothing after a panic: the next start recovers from the
   * write-ahead log.
   */
  async close(): Promise<void> {
    if (this.#failure === undefined) await this.#pglite.close();
  }

  /**
   * Makes `execute` throw when Postgres panics, for example because the write-ahead log cannot be written.
   * PGlite ignores every exception of the main loop and calls the loop again; after a panic the loop then
   * deadlocks on a lock that Postgres holds itself, and blocks the thread forever. `stackRestore` rethrows
   * the exception, because that is the first function PGlite calls after catching one.
   */
  #watch(module: Module): void {
    const { _PostgresMainLoopOnce: runOnce, stackRestore } = module;
    module._PostgresMainLoopOnce = () => {
      try {
        runOnce();
      } catch (error) {
        if ((error as { status?: number }).status !== LONG_JUMP) this.#failure = this.#explain(error);
        throw error;
      }
    };
    module.stackRestore = (pointer) => {
      if (this.#failure !== undefined) throw this.#failure;
      stackRestore(pointer);
    };
  }

  #explain(cause: unknown): Error {
    const { directory } = this.#options;
    if (directory === undefined || readFreeBytes(directory) >= LOG_SEGMENT_BYTES) {
      return new Error(`The embedded database has stopped: ${messageOf(cause)}. Restart the service.`, {
        cause,
      });
    }
    return new FullDiskError(
      `The disk of the data directory ${directory} is full, and the database has stopped. Free disk space and restart the service; acknowledged writes are kept.`,
      { cause },
    );
  }
}
