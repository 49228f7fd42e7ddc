import type { PGlite } from "@electric-sql/pglite";
import { messageOf } from "../../errors.ts";
import { FullDiskError, LOG_SEGMENT_BYTES, readFreeBytes } from "./disk.ts";

/** The status with which the main loop is left when a statement fails; PGlite does what it takes then. */
const LONG_JUMP = 100;

/** What is used here of PGlite's WebAssembly module. */
interface Module {
  _PostgresMainLoopOnce: () => void;
  stackRestore: (pointer: number) => void;
}

/** Where the files of a backend are, and what is kept free beside them. */
interface BackendOptions {
  /** Undefined: in memory. */
  directory: string | undefined;
  diskReserveBytes: number;
}

/** Postgres in WebAssembly, which is given messages of its protocol. */
export class Backend {
  readonly #pglite: PGlite;
  readonly #options: BackendOptions;
  #failure: Error | undefined;

  constructor(pglite: PGlite, options: BackendOptions) {
    this.#pglite = pglite;
    this.#options = options;
    this.#watch(pglite.Module as unknown as Module);
  }

  /** Whether the disk has room for writes. */
  get hasRoom(): boolean {
    const { directory, diskReserveBytes } = this.#options;
    return directory === undefined || readFreeBytes(directory) >= diskReserveBytes;
  }

  /** Blocks this thread until the messages are processed; returns the answers. */
  execute(messages: Buffer): Buffer {
    // Postgres has stopped amid its work: to run anything more on what it has in memory could spoil the files.
    if (this.#failure !== undefined) throw this.#failure;
    return Buffer.from(this.#pglite.execProtocolRawSync(messages));
  }

  /** Writes all to disk and ends; nothing is left to do when Postgres has stopped: the next start recovers from the log. */
  async close(): Promise<void> {
    if (this.#failure === undefined) await this.#pglite.close();
  }

  /**
   * Has `execute` throw when Postgres panics, as it does when its log cannot be written. PGlite swallows all that comes
   * out of the main loop and calls it again, which then waits for ever for a lock of its own, and blocks this thread. The
   * exception is passed on from `stackRestore`, the first thing PGlite calls with one in hand.
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
      return new Error(`The embedded database has stopped: ${messageOf(cause)}. Start again.`, { cause });
    }
    return new FullDiskError(
      `The disk of the data directory ${directory} is full, and the database has stopped. Make room and start again; what was acknowledged is kept.`,
      { cause },
    );
  }
}
