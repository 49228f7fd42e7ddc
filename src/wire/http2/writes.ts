import { constants, type ServerHttp2Stream } from "node:http2";

/** Limits of the replies on HTTP/2 streams. */
export interface WriteBounds {
  /** Maximum size in bytes of what a stream hands to its session at once. */
  writePieceBytes: number;
  /** Timeout in ms for a client to take such a piece. */
  writeStallTimeoutMs: number;
}

type Done = (error?: Error | null) => void;

/**
 * Splits what is written to a stream into pieces, and hands a piece to the HTTP/2 session only after the
 * previous one was sent (backpressure). Node counts the bytes that a session has accepted against
 * `maxSessionMemory`, and does not subtract those of a stream that was reset: after one reset of a reply of
 * 12 MB the session would refuse every later stream with ENHANCE_YOUR_CALM. Works below the stream's public
 * methods, so it bounds the replies of all protocols alike.
 *
 * A stream whose client does not take a piece within `writeStallTimeoutMs` is reset. `onLost` is called with
 * the bytes that stay in the session's memory when the stream ends in the middle of a piece.
 */
export function boundWrites(
  stream: ServerHttp2Stream,
  { writePieceBytes, writeStallTimeoutMs }: WriteBounds,
  onLost: (bytes: number) => void,
): void {
  const write = stream._write.bind(stream);
  let unsent = 0;
  let stalled: NodeJS.Timeout | undefined;
  const reset = () => stream.close(constants.NGHTTP2_CANCEL);
  const writePieces = (pieces: Iterator<Buffer, undefined>, done: Done) => {
    const { value: piece } = pieces.next();
    if (piece === undefined) return done();
    unsent = piece.length;
    if (stalled === undefined) stalled = setTimeout(reset, writeStallTimeoutMs);
    else stalled.refresh();
    write(piece, "buffer" as BufferEncoding, (error) => {
      if (error !== undefined && error !== null) return done(error);
      unsent = 0;
      clearTimeout(stalled);
      stalled = undefined;
      writePieces(pieces, done);
    });
  };
  stream._write = (chunk, encoding, done) => writePieces(split([{ chunk, encoding }], writePieceBytes), done);
  stream._writev = (chunks, done) => writePieces(split(chunks, writePieceBytes), done);
  stream.once("close", () => {
    clearTimeout(stalled);
    if (unsent > 0) onLost(unsent);
  });
}

/** Joins small chunks, as HTTP/2 frames them together, and cuts large ones. */
function* split(
  chunks: readonly { chunk: Buffer | string; encoding: BufferEncoding }[],
  bytesMax: number,
): Generator<Buffer, undefined> {
  let small: Buffer[] = [];
  let bytes = 0;
  for (const { chunk, encoding } of chunks) {
    const buffer = typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk;
    if (bytes > 0 && bytes + buffer.length > bytesMax) {
      yield join(small);
      small = [];
      bytes = 0;
    }
    if (buffer.length <= bytesMax) {
      small.push(buffer);
      bytes += buffer.length;
      continue;
    }
    for (let start = 0; start < buffer.length; start += bytesMax)
      yield buffer.subarray(start, start + bytesMax);
  }
  if (bytes > 0) yield join(small);
}

function join(buffers: readonly Buffer[]): Buffer {
  return buffers.length === 1 ? (buffers[0] as Buffer) : Buffer.concat(buffers);
}
