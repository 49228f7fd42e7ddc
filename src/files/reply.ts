import { create } from "@bufbuild/protobuf";
import { FileSchema, FileStatus, type File } from "../../gen/pgquiver/v1/files_pb.ts";
import { toSeconds } from "../api/time.ts";
import type { FileRow } from "./rows.ts";

/** Converts a file's row to the API's message. */
export function toFile(row: FileRow): File {
  return create(FileSchema, {
    id: row.id,
    object: "file",
    bytes: BigInt(row.bytes),
    createdAt: toSeconds(row.created_at),
    ...(row.expires_at !== null && { expiresAt: toSeconds(row.expires_at) }),
    filename: row.filename,
    purpose: row.purpose,
    status: FileStatus.PROCESSED,
  });
}
