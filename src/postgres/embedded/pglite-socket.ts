import { Duplex } from "node:stream";
import type { Backend } from "./backend.ts";

/** Types of messages a client sends: one byte before a big-endian length that counts itself. */
const QUERY = 0x51;
const SYNC = 0x53;
const FLUSH = 0x48;
const COPY_DONE = 0x63;
const COPY_FAIL = 0x66;
const TERMINATE = 0x58;
const COPY_IN_RESPONSE = 0x47;
/** The last message of an answer, of six bytes, which ends with the state: idle, in a transaction, or in a failed one. */
const READY_FOR_QUERY = 0x5a;
const IDLE = 0x49;
const IN_TRANSACTION = 0x54;

const COPY_FROM_STDIN = /^\s*copy\b[^;]*\bfrom\s+stdin\b/i;

/** Sent to a session that may still be in its predecessor's transaction, before its start-up message. */
const RESET = [simpleQuery("rollback"), simpleQuery("discard all")];
/** What a server answers to COPY ... FROM STDIN: format and column count, which no client here reads. */
const COPY_IN = Buffer.from([COPY_IN_RESPONSE, 0, 0, 0, 7, 0, 0, 0]);

/**
 * A socket to the Postgres inside this process: node-postgres writes its messages to it and reads the answers from
 * it as it would over TCP. PGlite has one session, so one socket may be in use at a time; a new one starts clean, with
 * the settings given.
 *
 * PGlite must be given whole batches: the messages up to Sync or Flush, and a COPY together with all of its data
 * (else the WebAssembly backend exits). So a COPY is held in memory until it is complete; keep it small.
 */
export class PgliteSocket extends Duplex {
  readonly #backend: Backend;
  readonly #settings: Record<string, string | number>;
  #unparsed: Buffer = Buffer.alloc(0);
  #batch: Buffer[] = [];
  #started = false;
  #copying = false;
  /** The last byte of the last answer; undefined after a Flush, whose answer is not the last one. */
  #state: number | undefined = IDLE;
  #isReadOnly = false;

  constructor(backend: Backend, settings: Record<string, string | number>) {
    super();
    this.#backend = backend;
    this.#settings = settings;
  }

  // The part of net.Socket that node-postgres uses beyond Duplex.
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

  /** Not at once: the answer would arrive inside the call that sent the question, and nothing else got a turn. */
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
      // The start-up message alone has no type.
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

  /** Has Postgres itself refuse writes while the disk has no room for them. */
  #permitWrites(hasRoom: boolean): void {
    if (this.#state === IDLE && this.#isReadOnly === hasRoom) {
      this.#backend.execute(simpleQuery(`set default_transaction_read_only = ${hasRoom ? "off" : "on"}`));
      this.#isReadOnly = !hasRoom;
    } else if (this.#state === IN_TRANSACTION && !hasRoom) {
      this.#backend.execute(simpleQuery("set transaction_read_only = on"));
    }
  }
}

/** The answer with disk_full (53100) as the cause of what Postgres refused for the want of room (25006). */
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

/** The answer to a COPY without the invitation to send data, which the client has had already. */
function withoutCopyInResponse(answer: Buffer): Buffer {
  const kept: Buffer[] = [];
  for (let start = 0; start < answer.length;) {
    const end = start + 1 + answer.readInt32BE(start + 1);
    if (answer[start] !== COPY_IN_RESPONSE) kept.push(answer.subarray(start, end));
    start = end;
  }
  return Buffer.concat(kept);
}
