import { create, ScalarType, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import {
  ApiKeySchema,
  CallerSchema,
  LimitsSchema,
  ProjectSchema,
  QuotasSchema,
  type ApiKey,
  type Caller,
  type Project,
} from "../../gen/pgquiver/v1/access_pb.ts";
import { Scope } from "../../gen/pgquiver/v1/options_pb.ts";
import type { Principal } from "../api/principal.ts";
import type { Limits } from "../api/rates/limits.ts";
import { writeScopes } from "../api/scope.ts";
import { toSeconds } from "../api/time.ts";
import type { KeyRow } from "./keys.ts";
import type { ProjectRow } from "./projects.ts";
import type { QuotaUses } from "./quota-use.ts";

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

/** What is known of a caller beside its principal. */
export interface CallerFacts {
  project: ProjectRow;
  /** Undefined: the caller has no key in the database. */
  key: KeyRow | undefined;
  /** The limits of the project, the service's defaults included. */
  projectLimits: Limits;
  quotas: QuotaUses;
}

/** Describes a caller. What a project holds is told only to callers that may see all of it. */
export function toCaller(caller: Principal, { project, key, projectLimits, quotas }: CallerFacts): Caller {
  const { kind, keyId, storeIds, readers = new Set(), limits = {} } = caller;
  const seesAll =
    caller.scopes.has(Scope.PROJECTS_ADMIN) || (storeIds === undefined && caller.readers === undefined);
  const subject = key?.certificate_subject ?? null;
  const expiresAt = caller.expiresAt ?? key?.expires_at ?? null;
  return create(CallerSchema, {
    object: "organization.caller",
    kind: subject === null ? kind : "client_certificate",
    ...(keyId !== "" && { id: keyId }),
    ...(key !== undefined && { name: key.name }),
    ...(subject !== null && { certificateSubject: subject }),
    projectId: project.id,
    projectName: project.name,
    scopes: writeScopes(caller.scopes),
    allStores: storeIds === undefined,
    storeIds: [...(storeIds ?? [])].toSorted(),
    readers: [...readers].toSorted(),
    ...(expiresAt !== null && { expiresAt: toSeconds(expiresAt) }),
    ...(Object.keys(limits).length > 0 && { limits: toMessage(LimitsSchema, limits) }),
    ...(Object.keys(projectLimits).length > 0 && { projectLimits: toMessage(LimitsSchema, projectLimits) }),
    quotas: Object.entries(quotas).map(([name, { max, used }]) => ({
      name,
      ...(max !== null && { max: BigInt(max) }),
      ...(seesAll && { used: BigInt(used) }),
    })),
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
