import { checkStorable } from "../api/checks.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Vector } from "./vector.ts";

/** A validated row, ready to insert. */
export interface Row {
  id: string;
  content: string;
  /** UTF-8 bytes of `content`. */
  contentBytes: number;
  /** A JSON object, as text. */
  metadata: string;
  /** float32, or the bytes of little-endian float32. */
  vector: Vector;
  createdAt: Date;
}

/** Checks a row's text: 1 byte to 1 MiB of UTF-8, without NUL. Returns the bytes. Throws INVALID_ARGUMENT. */
export function checkContent(content: string, param: string): number {
  if (content === "") throw missingParameter(param);
  checkStorable(content, param);
  const bytes = Buffer.byteLength(content);
  if (bytes > limits.content_bytes_max) {
    const message = `Invalid '${param}': text too long. Expected at most ${limits.content_bytes_max} bytes, but got ${bytes} instead.`;
    throw invalidArgument(param, message, "STRING_ABOVE_MAX_LENGTH");
  }
  return bytes;
}

/**
 * Checks a row's metadata, at most 64 KiB and 32 levels, and returns the JSON text. Throws INVALID_ARGUMENT.
 */
export function checkMetadata(metadata: Record<string, unknown> | undefined, param: string): string {
  return checkJson(writeMetadata(metadata, param), param);
}

/** Converts metadata of at most 32 levels to JSON text. The caller must pass the text to `checkJson`. */
export function writeMetadata(metadata: Record<string, unknown> | undefined, param: string): string {
  if (metadata === undefined) return "{}";
  checkDepth(metadata, param);
  return JSON.stringify(metadata);
}

/**
 * Checks the length and the characters of metadata in JSON text, and returns the text. Throws
 * INVALID_ARGUMENT.
 */
export function checkJson(json: string, param: string): string {
  // JSON.stringify escapes NUL and lone surrogates as \u…; an odd number of backslashes tells such an escape
  // from a literal backslash in the text, which JSON doubles.
  if (/(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/.test(json)) {
    throw invalidArgument(
      param,
      `Invalid '${param}': Postgres JSON can hold neither NUL (U+0000) nor a lone surrogate.`,
    );
  }
  // Fast path: a UTF-16 unit becomes at most three bytes of UTF-8, so short texts need no count.
  const bytes = json.length * 3 <= limits.metadata_bytes_max ? 0 : Buffer.byteLength(json);
  if (bytes > limits.metadata_bytes_max) {
    const message = `Invalid '${param}': too large. Expected at most ${limits.metadata_bytes_max} bytes of JSON, but got ${bytes} instead.`;
    throw invalidArgument(param, message, "STRING_ABOVE_MAX_LENGTH");
  }
  return json;
}

/** The last second of the year 9999, which every client can read; Postgres could hold more. */
const TIME_MAX_SECONDS = 253_402_300_799n;

/** Checks a time of creation, in seconds since 1970. */
export function checkTime(seconds: bigint, param: string): Date {
  if (seconds < 0n || seconds > TIME_MAX_SECONDS) {
    throw invalidArgument(param, `Invalid '${param}': expected seconds since 1970, up to the year 9999.`);
  }
  return new Date(Number(seconds) * 1000);
}

function checkDepth(root: object, param: string): void {
  let level: object[] = [root];
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > limits.metadata_depth_max) {
      throw invalidArgument(
        param,
        `Invalid '${param}': nested deeper than ${limits.metadata_depth_max} levels.`,
      );
    }
    const values = level.flatMap((node) => Object.values(node) as unknown[]);
    // JSON.stringify would silently write null.
    if (values.some((value) => typeof value === "number" && !Number.isFinite(value))) {
      throw invalidArgument(param, `Invalid '${param}': JSON has no NaN and no infinities.`);
    }
    level = values.filter((value) => typeof value === "object" && value !== null);
  }
}
