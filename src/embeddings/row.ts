import { checkStorable } from "../api/checks.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Vector } from "./vector.ts";

/** A row ready to be stored. */
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

/** Checks the text of a row: 1 byte to 1 MiB of UTF-8 without NUL. Returns its length in bytes. */
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

/** Checks the metadata of a row and returns it as JSON text: up to 64 KiB, 32 levels deep. */
export function checkMetadata(metadata: Record<string, unknown> | undefined, param: string): string {
  return checkJson(writeMetadata(metadata, param), param);
}

/** Writes metadata of at most 32 levels as JSON text, whose characters and length `checkJson` is to check. */
export function writeMetadata(metadata: Record<string, unknown> | undefined, param: string): string {
  if (metadata === undefined) return "{}";
  checkDepth(metadata, param);
  return JSON.stringify(metadata);
}

/** The same for metadata that is JSON text already. */
export function checkJson(json: string, param: string): string {
  // Escaped, as JSON writes both; a backslash of the text itself is doubled and so passes by.
  if (/(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/.test(json)) {
    throw invalidArgument(
      param,
      `Invalid '${param}': Postgres JSON can hold neither NUL (U+0000) nor a lone surrogate.`,
    );
  }
  // A UTF-16 unit is three bytes at most: the short ones need no counting.
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
    // JSON would turn them into null.
    if (values.some((value) => typeof value === "number" && !Number.isFinite(value))) {
      throw invalidArgument(param, `Invalid '${param}': JSON has no NaN and no infinities.`);
    }
    level = values.filter((value) => typeof value === "object" && value !== null);
  }
}
