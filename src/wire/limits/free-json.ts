import { invalidArgument } from "../../errors.ts";
import type { RequestLimits } from "./request-limits.ts";

/** Maximum number of values, and maximum nesting, of a body that no descriptor describes. */
const VALUES_MAX = 10_000;
const DEPTH_MAX = 64;

const [QUOTE, BACKSLASH, COMMA] = [0x22, 0x5c, 0x2c];
const OPENING: ReadonlySet<number> = new Set([0x5b, 0x7b]);
const CLOSING: ReadonlySet<number> = new Set([0x5d, 0x7d]);

/**
 * The limits of JSON bodies that no descriptor describes, those of other products' APIs: their values and nesting are
 * counted before an object is made of any.
 */
export function freeJsonLimits(bytesMax: number): RequestLimits {
  return { bytesMax, check: countValues };
}

function countValues(bytes: Uint8Array): void {
  let values = 0;
  let depth = 0;
  let isText = false;
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] as number;
    if (isText) {
      if (byte === BACKSLASH) index++;
      else if (byte === QUOTE) isText = false;
    } else if (byte === QUOTE) isText = true;
    else if (byte === COMMA) values++;
    else if (OPENING.has(byte)) {
      values++;
      depth++;
    } else if (CLOSING.has(byte)) depth--;
    if (values > VALUES_MAX) throw tooMuch(`more than ${VALUES_MAX} values`);
    if (depth > DEPTH_MAX) throw tooMuch(`nested deeper than ${DEPTH_MAX} levels`);
  }
}

function tooMuch(what: string) {
  return invalidArgument(undefined, `Invalid body: ${what}.`, "INVALID_REQUEST");
}
