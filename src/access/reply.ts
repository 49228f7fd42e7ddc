import { create, ScalarType, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import {
  ApiKeySchema,
  LimitsSchema,
  ProjectSchema,
  QuotasSchema,
  type ApiKey,
  type Project,
} from "../../gen/pgquiver/v1/access_pb.ts";
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
    ...(row.limits !== null && { limits: toMessage(LimitsSchema, row.limits) }),
    ...(row.quotas !== null && { quotas: toMessage(QuotasSchema, row.quotas) }),
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
    ...(row.limits !== null && { limits: toMessage(LimitsSchema, row.limits) }),
  });
}

/** Converts limits or quotas to their message; names of later versions are left out. */
function toMessage<Desc extends DescMessage>(
  desc: Desc,
  values: Readonly<Record<string, number | null>>,
): MessageInitShape<Desc> {
  const fields = desc.fields.filter(({ name }) => (values[name] ?? null) !== null);
  return Object.fromEntries(
    fields.map(({ name, localName, scalar }) => {
      const value = values[name] as number;
      return [localName, scalar === ScalarType.INT64 ? BigInt(value) : value];
    }),
  ) as MessageInitShape<Desc>;
}
