import { unreadable } from "../../errors.ts";

/** The escapes of JSON in their order, so that the backslash of `\\ud800` is not taken for the one of an escape. */
const ESCAPE = /\\(?:u([\dA-Fa-f]{4})|.)/gs;

/**
 * Throws INVALID_ARGUMENT for a JSON text that has half of a surrogate pair, such as `\ud800` alone: it is no Unicode, and an
 * error that quotes it cannot be sent, since the header of gRPC's message is UTF-8. `json`: in UTF-8, which has no other way
 * to write one.
 */
export function refuseHalfPairs(json: Uint8Array): void {
  const text = Buffer.from(json.buffer, json.byteOffset, json.length);
  if (!text.includes("\\ud") && !text.includes("\\uD")) return;
  let high: RegExpExecArray | undefined;
  for (const escape of text.toString("latin1").matchAll(ESCAPE)) {
    const unit = Number.parseInt(escape[1] ?? "0", 16);
    const isLow = unit >= 0xdc00 && unit <= 0xdfff;
    const follows = high !== undefined && escape.index === high.index + 6;
    if (isLow !== (high !== undefined) || (isLow && !follows)) throw halfPair();
    high = unit >= 0xd800 && unit < 0xdc00 ? escape : undefined;
  }
  if (high !== undefined) throw halfPair();
}

function halfPair() {
  return unreadable("The JSON text has a lone surrogate and is not valid Unicode.");
}
