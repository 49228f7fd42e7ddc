import { create } from "@bufbuild/protobuf";
import { ApiKeySchema, ProjectSchema, type ApiKey, type Project } from "../../gen/pgquiver/v1/access_pb.ts";
import { toSeconds } from "../api/time.ts";
import type { KeyRow } from "./keys.ts";
import type { ProjectRow } from "./projects.ts";

/** Converts a project's row to the API's message. */
export function toProject(row: ProjectRow): Project {
  return create(ProjectSchema, {
    id: row.id,
    object: "organization.project",
    name: row.name,
    createdAt: toSeconds(row.created_at),
    ...(row.archived_at !== null && { archivedAt: toSeconds(row.archived_at) }),
    status: row.archived_at === null ? "active" : "archived",
  });
}

/** Converts a key's row to the API's message; `value` is the key itself, when it was just made. */
export function toApiKey(row: KeyRow, value?: string): ApiKey {
  const createdAt = toSeconds(row.created_at);
  return create(ApiKeySchema, {
    id: row.id,
    object: "organization.project.api_key",
    name: row.name,
    redactedValue: row.redacted,
    ...(value !== undefined && { value }),
    createdAt,
    ...(row.last_used_at !== null && { lastUsedAt: toSeconds(row.last_used_at) }),
    ...(row.expires_at !== null && { expiresAt: toSeconds(row.expires_at) }),
    projectId: row.project_id,
    scopes: row.scopes,
    storeIds: row.store_ids ?? [],
    owner: {
      type: "service_account",
      serviceAccount: { id: row.id, name: row.name, createdAt, role: "member" },
    },
    ownerProjectAccess: "active",
    ...(row.certificate_subject !== null && { certificateSubject: row.certificate_subject }),
  });
}
