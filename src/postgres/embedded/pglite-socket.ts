import { Duplex } from "node:stream";
import type { Backend } from "./backend.ts";

/**
 * Message types of the Postgres wire protocol. A message is one byte of type, then a big-endian int32 length
 * that includes itself, then the payload.
 */
const QUERY = 0x51;
const SYNC = 0x53;
const FLUSH = 0x48;
const COPY_DONE = 0x63;
const COPY_FAIL = 0x66;
const TERMINATE = 0x58;
const COPY_IN_RESPONSE = 0x47;
/**
 * ReadyForQuery, the last message of an answer: six bytes, the last of which is the transaction state (idle,
 * in a transaction, or in a failed transaction).
 */
const READY_FOR_QUERY = 0x5a;
const IDLE = 0x49;
const IN_TRANSACTION = 0x54;

const COPY_FROM_STDIN = /^\s*copy\b[^;]*\bfrom\s+stdin\b/i;

/**
 * Statements that reset the session before a start-up message: the previous socket may have left a
 * transaction open.
 */
const RESET = [simpleQuery("rollback"), simpleQuery("discard all")];
/**
 * CopyInResponse, the answer to COPY ... FROM STDIN: format and column count, which node-postgres ignores.
 */
const COPY_IN = Buffer.from([COPY_IN_RESPONSE, 0, 0, 0, 7, 0, 0, 0]);

/**
 * A socket between node-postgres and PGlite, which carries the Postgres wire protocol like a TCP connection.
 * PGlite has a single session, so only one socket may be in use at a time; a new socket resets the session
 * and applies `settings`.
 *
 * PGlite must get complete batches: all messages up to Sync or Flush, and a COPY with all of its data,
 * otherwise the WebAssembly backend exits. So a COPY is buffered in memory until it is complete, and must be
 * small.
 */
export class PgliteSocket extends Duplex {
  readonly #backend: Backend;
  readonly #settings: Record<string, string | number>;
  #unparsed: Buffer = Buffer.alloc(0);
  #batch: Buffer[] = [];
  #started = false;
  #copying = false;
  /**
   * Transaction state of the last answer; undefined after a Flush, whose answer does not end with
   * ReadyForQuery.
   */
  #state: number | undefined = IDLE;
  #isReadOnly = false;

  constructor(backend: Backend, settings: Record<string, string | number>) {
    super();
    this.#backend = backend;
    this.#settings = settings;
  }

  // The methods of net.Socket that node-postgres uses in addition to Duplex.
  connect(): this {
    process.nextTick(() => this.emit("connect"));
    return this;
  }
  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }

  override _read(): void {}

  /**
   * Executes the messages in a later turn of the event loop (setImmediate): node-postgres does not expect an
   * answer during its own write, and other work gets a turn between statements.
   */
  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    setImmediate(() => {
      try {
        this.#receive(Buffer.concat([this.#unparsed, ...chunks.map(({ chunk }) => chunk)]));
        done();
      } catch (error) {
        done(error as Error);
      }
    });
  }

  override _final(done: () => void): void {
    this.push(null);
    done();
  }

  #receive(bytes: Buffer): void {
    for (let start = 0; ;) {
      // The start-up message is the only one without a type byte.
      const lengthAt = start + (this.#started ? 1 : 0);
      const end = bytes.length < lengthAt + 4 ? Infinity : lengthAt + bytes.readInt32BE(lengthAt);
      if (end > bytes.length) {
        this.#unparsed = bytes.subarray(start);
        return;
      }
      const message = bytes.subarray(start, end);
      if (this.#started) this.#accept(message);
      else this.#start(message);
      start = end;
    }
  }

  #start(message: Buffer): void {
    for (const query of RESET) this.#backend.execute(query);
    this.push(this.#backend.execute(message));
    for (const [name, value] of Object.entries(this.#settings))
      this.#backend.execute(simpleQuery(`set ${name} = ${value}`));
    this.#started = true;
  }

  #accept(message: Buffer): void {
    const type = message[0];
    if (type === TERMINATE) return;
    this.#batch.push(message);
    if (type === QUERY && COPY_FROM_STDIN.test(message.toString("utf8", 5))) {
      this.#copying = true;
      this.push(COPY_IN);
      return;
    }
    const complete = this.#copying
      ? type === COPY_DONE || type === COPY_FAIL
      : type === QUERY || type === SYNC || type === FLUSH;
    if (!complete) return;
    const answer = this.#execute(Buffer.concat(this.#batch));
    this.push(this.#copying ? withoutCopyInResponse(answer) : answer);
    this.#batch = [];
    this.#copying = false;
  }

  #execute(batch: Buffer): Buffer {
    const hasRoom = this.#backend.hasRoom;
    this.#permitWrites(hasRoom);
    const answer = this.#backend.execute(batch);
    this.#state = answer.at(-6) === READY_FOR_QUERY ? answer.at(-1) : undefined;
    return hasRoom ? answer : nameFullDisk(answer);
  }

  /** Makes Postgres refuse writes while the disk is nearly full, by read-only transactions. */
  #permitWrites(hasRoom: boolean): void {
    if (this.#state === IDLE && this.#isReadOnly === hasRoom) {
      this.#backend.execute(simpleQuery(`set default_transaction_read_only = ${hasRoom ? "off" : "on"}`));
      this.#isReadOnly = !hasRoom;
    } else if (this.#state === IN_TRANSACTION && !hasRoom) {
      this.#backend.execute(simpleQuery("set transaction_read_only = on"));
    }
  }
}

/**
 * Replaces the SQLSTATE read_only_sql_transaction (25006) in an answer by disk_full (53100), the actual
 * cause.
 */
function nameFullDisk(answer: Buffer): Buffer {
  const at = answer.indexOf("C25006\0");
  if (at >= 0) answer.write("C53100", at, "latin1");
  return answer;
}

function simpleQuery(sql: string): Buffer {
  const message = Buffer.alloc(5 + sql.length + 1);
  message.writeUInt8(QUERY, 0);
  message.writeInt32BE(4 + sql.length + 1, 1);
  message.write(sql, 5);
  return message;
}

/** Removes CopyInResponse from the answer to a COPY: the socket has already sent it to the client. */
function withoutCopyInResponse(answer: Buffer): Buffer {
  const kept: Buffer[] = [];
  for (let start = 0; start < answer.length;) {
    const end = start + 1 + answer.readInt32BE(start + 1);
    if (answer[start] !== COPY_IN_RESPONSE) kept.push(answer.subarray(start, end));
    start = end;
  }
  return Buffer.concat(kept);
}
