import { cancelled } from "../errors.ts";
import type { Admit } from "./service.ts";

/** Bytes that are reserved at first for a body whose length is unknown. */
const FIRST_BYTES = 64 * 1024;

/** The memory reserved for the body of one request, from its first byte until the reply is sent or the client gone. */
export class BodyMemory {
  readonly #admit: Admit;
  readonly #gone = new AbortController();
  readonly #held: Disposable[] = [];
  #bytes = 0;

  constructor(admit: Admit, reply: { once: (event: "close", listener: () => void) => unknown }) {
    this.#admit = admit;
    reply.once("close", () => {
      this.#gone.abort(cancelled());
      for (const reservation of this.#held.splice(0)) reservation[Symbol.dispose]();
    });
  }

  /** Reserves `bytes` in all. Waits for memory; throws RATE_LIMIT_EXCEEDED when that takes too long. */
  async reserve(bytes: number): Promise<void> {
    if (bytes <= this.#bytes) return;
    const reservation = await this.#admit(bytes - this.#bytes, this.#gone.signal);
    this.#bytes = bytes;
    this.#held.push(reservation);
    if (this.#gone.signal.aborted) reservation[Symbol.dispose]();
  }

  /** Passes the chunks of a body on, each after memory for it was reserved; at most `bytesMax` are. */
  async *meter(chunks: AsyncIterable<Buffer>, bytesMax: number): AsyncGenerator<Buffer> {
    let bytes = 0;
    for await (const chunk of chunks) {
      bytes += chunk.length;
      // Twice as much each time, so that a long body has few reservations.
      if (bytes > this.#bytes) await this.reserve(Math.min(Math.max(FIRST_BYTES, 2 * bytes), bytesMax));
      yield chunk;
    }
  }
}
