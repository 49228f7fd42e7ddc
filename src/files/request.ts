import {
  FileExpiryAnchor,
  type FileExpiresAfter,
  type UploadFileMetadata,
} from "../../gen/pgquiver/v1/files_pb.ts";
import { checkRange, checkText } from "../api/checks.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import type { FileDescription } from "./upload.ts";

/** The purposes that OpenAI accepts for uploads. */
const PURPOSES = ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"];

/** Checks the metadata of an upload. Throws INVALID_ARGUMENT, with OpenAI's wording. */
export function readDescription({
  filename,
  purpose,
  expiresAfter,
}: Pick<UploadFileMetadata, "filename" | "purpose" | "expiresAfter">): FileDescription {
  if (filename === "") throw missingParameter("filename");
  if (purpose === "") throw missingParameter("purpose");
  if (!PURPOSES.includes(purpose)) {
    const supported = PURPOSES.map((word) => `'${word}'`).join(", ");
    throw invalidArgument("purpose", `Invalid value: '${purpose}'. Supported values are: ${supported}.`);
  }
  return {
    filename: cleanFilename(filename),
    purpose,
    expiresAfterSeconds: expiresAfter === undefined ? null : readExpiry(expiresAfter),
  };
}

/**
 * Strips directories (`/` and `\`), control characters, line separators and lone surrogates from a file name.
 */
function cleanFilename(filename: string): string {
  const name = filename
    .slice(Math.max(filename.lastIndexOf("/"), filename.lastIndexOf("\\")) + 1)
    .replace(/[\p{Cc}\p{Cs}\u2028\u2029]/gu, "")
    .trim();
  if (/^\.{0,2}$/.test(name))
    throw invalidArgument("filename", "Invalid 'filename': expected a name, not a folder.");
  checkText(name, "filename", limits.filename_chars_max);
  return name;
}

function readExpiry({ anchor, seconds }: FileExpiresAfter): number {
  if (anchor === FileExpiryAnchor.UNSPECIFIED) throw missingParameter("expires_after.anchor");
  if (anchor !== FileExpiryAnchor.CREATED_AT) {
    throw invalidArgument(
      "expires_after.anchor",
      `Invalid value: '${anchor as number}'. Supported values are: 'created_at'.`,
    );
  }
  if (seconds === undefined) throw missingParameter("expires_after.seconds");
  const { file_expiry_seconds_min: min, file_expiry_seconds_max: max } = limits;
  checkRange("expires_after.seconds", Number(seconds), min, max);
  return Number(seconds);
}
