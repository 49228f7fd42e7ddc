import { takeBuffer } from "../../api/buffer-pool.ts";
import { unimplemented, missingParameter } from "../../errors.ts";
import { expandedBytesMax } from "../inflate.ts";
import { messageTooLarge } from "../limits/request-limits.ts";
import { PREFIX_BYTES } from "./response.ts";

/** Maximum size of a stream's first message in bytes: the message opens the stream and carries no data. */
const OPENING_BYTES_MAX = 64 * 1024;

/** The lowest bit of a message's flags: the message is compressed. */
export const COMPRESSED = 1;

/** How the messages of a call are received. */
export interface MessageRules {
  /** Maximum size of a message, in bytes. */
  bytesMax: number;
  /** Reserves memory for a message. */
  admit: (bytes: number) => Promise<Disposable>;
  /** Decompresses and checks a message; throws when it is refused. */
  unpack: (flags: number, message: Buffer) => Promise<{ flags: number; message: Buffer }>;
  /** Field of the message that opens a stream, which needs no memory; undefined: no message opens it. */
  opening?: string | undefined;
  /** Whether the call has one message. */
  isUnary?: boolean;
}

/** A length-prefixed message, complete unless the stream has ended within it. */
export interface Frame {
  /** The prefix, of 5 bytes where the frame is complete. */
  head: Buffer;
  body: Buffer;
  isComplete: boolean;
}

/**
 * Reads length-prefixed messages, each when it is complete, after `admit` has granted memory for it; for a compressed
 * message, for the largest size after decompression. The memory is returned when the consumer asks for the next
 * message, because the last one is consumed then. A message that is too large is refused by its prefix, and so is a
 * first message of more than 64 KiB where it has to open the stream.
 */
export async function* readFrames(
  chunks: AsyncIterator<Buffer>,
  rules: MessageRules,
): AsyncGenerator<Frame, undefined> {
  const reader = new FrameReader(chunks);
  try {
    for (let isFirst = true; ; isFirst = false) {
      const head = await reader.read(Buffer.allocUnsafe(PREFIX_BYTES));
      if (head.length === 0) return;
      if (head.length < PREFIX_BYTES) {
        yield { head, body: Buffer.alloc(0), isComplete: false };
        return;
      }
      if (rules.isUnary === true && !isFirst) throw unimplemented("The call has more than one message.");
      const bytes = head.readUInt32BE(1);
      const isOpening = isFirst && rules.opening !== undefined;
      if (isOpening && bytes > OPENING_BYTES_MAX) throw missingParameter(rules.opening as string);
      if (bytes > rules.bytesMax) throw messageTooLarge(rules.bytesMax, bytes);
      const flags = head[0] as number;
      const isPacked = (flags & COMPRESSED) !== 0;
      using _admitted = isOpening
        ? undefined
        : await rules.admit(isPacked ? expandedBytesMax(bytes, rules.bytesMax) : bytes);
      const body = await reader.read(takeBuffer(bytes));
      if (body.length < bytes) {
        yield { head, body, isComplete: false };
        return;
      }
      const unpacked = await rules.unpack(flags, body);
      head[0] = unpacked.flags;
      head.writeUInt32BE(unpacked.message.length, 1);
      yield { head, body: unpacked.message, isComplete: true };
    }
  } finally {
    await reader.end();
  }
}

/** Passes messages on with their prefixes, as `readFrames` reads them; also the beginning of one that never came. */
export async function* admitMessages(
  chunks: AsyncIterable<Buffer>,
  rules: MessageRules,
): AsyncGenerator<Uint8Array> {
  for await (const { head, body } of readFrames(chunks[Symbol.asyncIterator](), rules)) {
    yield head;
    yield body;
  }
}

/** Reads a stream of chunks in pieces of given lengths. */
class FrameReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncIterator<Buffer>) {
    this.#chunks = chunks;
  }

  /** Reads no more of the stream. */
  async end(): Promise<void> {
    await this.#chunks.return?.();
  }

  /** Fills the buffer; returns what there was of it when the stream ended. */
  async read(target: Buffer): Promise<Buffer> {
    for (let filled = 0; filled < target.length;) {
      if (this.#rest.length === 0) {
        const next = await this.#chunks.next();
        if (next.done === true) return target.subarray(0, filled);
        this.#rest = next.value;
      }
      const copied = this.#rest.copy(target, filled);
      this.#rest = this.#rest.subarray(copied);
      filled += copied;
    }
    return target;
  }
}
