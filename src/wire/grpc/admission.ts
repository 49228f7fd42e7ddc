import { unimplemented, missingParameter } from "../../errors.ts";
import { expandedBytesMax } from "../inflate.ts";
import { messageTooLarge } from "../limits/request-limits.ts";

/** Maximum size of a stream's first message in bytes: the message opens the stream and carries no data. */
const OPENING_BYTES_MAX = 64 * 1024;

/**
 * Bytes of the prefix of a gRPC message: 1 of "Compressed-Flag", 4 of "Message-Length", see
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
 */
const PREFIX_BYTES = 5;

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

/**
 * Passes length-prefixed messages on, each when it is complete, after `admit` has granted memory for it; for a
 * compressed message, for the largest size after decompression. The memory is returned when the consumer asks for the
 * next chunk, because the message is consumed then. A message that is too large is refused by its prefix, and so is a
 * first message of more than 64 KiB where it has to open the stream.
 */
export async function* admitMessages(
  chunks: AsyncIterable<Buffer>,
  rules: MessageRules,
): AsyncGenerator<Uint8Array> {
  const reader = new FrameReader(chunks);
  try {
    yield* passMessages(reader, rules);
  } finally {
    await reader.end();
  }
}

async function* passMessages(reader: FrameReader, rules: MessageRules): AsyncGenerator<Uint8Array> {
  let isFirst = true;
  for (;;) {
    const head = await reader.read(PREFIX_BYTES);
    if (head.length < PREFIX_BYTES) {
      if (head.length > 0) yield head;
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
    isFirst = false;
    const body = await reader.read(bytes);
    if (body.length < bytes) {
      yield head;
      yield body;
      return;
    }
    const unpacked = await rules.unpack(flags, body);
    head[0] = unpacked.flags;
    head.writeUInt32BE(unpacked.message.length, 1);
    yield head;
    yield unpacked.message;
  }
}

/** Reads a stream of chunks in pieces of given lengths. */
class FrameReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** Reads no more of the stream. */
  async end(): Promise<void> {
    await this.#chunks.return?.();
  }

  /** Reads `length` bytes, or fewer at the end of the stream. */
  async read(length: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    let missing = length;
    while (missing > 0) {
      if (this.#rest.length === 0) {
        const next = await this.#chunks.next();
        if (next.done === true) break;
        this.#rest = next.value;
      }
      const part = this.#rest.subarray(0, missing);
      this.#rest = this.#rest.subarray(part.length);
      missing -= part.length;
      parts.push(part);
    }
    return parts.length === 1 && length > PREFIX_BYTES ? (parts[0] as Buffer) : Buffer.concat(parts);
  }
}
