import {
  LimitsSchema,
  QuotasSchema,
  type CreateApiKeyRequest,
  type UpdateApiKeyRequest,
  type Limits as LimitsMessage,
  type Quotas as QuotasMessage,
} from "../../gen/pgquiver/v1/access_pb.ts";
import { checkLength, checkRange, checkText } from "../api/checks.ts";
import { checkIdentifier } from "../api/identifier.ts";
import type { Principal } from "../api/principal.ts";
import { LIMIT_NAMES, type Limits } from "../api/rates/limits.ts";
import { readScopes, SCOPE_WORDS } from "../api/scope.ts";
import { readUpdateMask } from "../api/update-mask.ts";
import { exceedsKey, invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import { DEFAULT_PROJECT } from "../store-id.ts";
import type { NewKeyRow } from "./keys.ts";
import type { Quotas } from "./projects.ts";

/** Validates the name of a project or a key. Throws INVALID_ARGUMENT. */
export function readName(name: string): string {
  if (name.trim() === "") throw missingParameter("name");
  checkText(name, "name", limits.project_name_chars_max);
  return name;
}

/** Validates the limits of a project or, with `ofKey`, a key; undefined: none are given. Throws INVALID_ARGUMENT. */
export function readLimits(message: LimitsMessage | undefined, ofKey = false): Limits | undefined {
  if (message === undefined) return undefined;
  const limits: Record<string, number> = {};
  for (const { name, localName } of LimitsSchema.fields) {
    const given = message[localName as "maxRequestsPer1Minute"];
    if (given === undefined) continue;
    checkRange(`limits.${name}`, Number(given), 1, name.endsWith("_percent") ? 100 : LIMIT_MAX);
    limits[name] = Number(given);
  }
  if (ofKey && limits["max_file_workers"] !== undefined) {
    const message = "Invalid 'limits.max_file_workers': files are processed for projects, not for keys.";
    throw invalidArgument("limits.max_file_workers", message);
  }
  return limits;
}

/** Validates the quotas of a project; undefined: none are given. Throws INVALID_ARGUMENT. */
export function readQuotas(message: QuotasMessage | undefined): Quotas | undefined {
  if (message === undefined) return undefined;
  const quotas: Record<string, number> = {};
  for (const { name, localName } of QuotasSchema.fields) {
    const given = message[localName as "maxRows"];
    if (given === undefined) continue;
    checkRange(`quotas.${name}`, Number(given), 0, Number.MAX_SAFE_INTEGER);
    quotas[name] = Number(given);
  }
  return quotas;
}

/** The highest limit that can be set. */
const LIMIT_MAX = 1_000_000_000;

/** What a request says of a new key. */
export type AskedKey = Pick<NewKeyRow, "name" | "scopes" | "storeIds" | "expiresInSeconds"> & {
  limits: Limits | null;
  /** Whose holders are to have the rights; null: those of a key. */
  certificateSubject: string | null;
};

/** What is to become of a key; undefined fields stay as they are. */
export type KeyChange = Partial<
  Pick<AskedKey, "name" | "scopes" | "storeIds" | "expiresInSeconds" | "limits">
>;

/** Validates the request for a new key. Throws INVALID_ARGUMENT. */
export function readNewKey(
  request: Omit<CreateApiKeyRequest, "$typeName" | "$unknown">,
): AskedKey & { projectId: string } {
  const { projectId, certificateSubject } = request;
  return {
    projectId,
    name: readName(request.name),
    scopes: readScopeWords(projectId, request.scopes),
    storeIds: readStoreIds(request.storeIds),
    expiresInSeconds: readExpiry(request.expiresInSeconds),
    limits: readLimits(request.limits, true) ?? null,
    certificateSubject: certificateSubject === undefined ? null : readSubject(certificateSubject),
  };
}

/** Validates the request for a change of a key. Throws INVALID_ARGUMENT. */
export function readKeyChange(request: UpdateApiKeyRequest): KeyChange {
  const { projectId, name = "", scopes, storeIds, expiresInSeconds } = request;
  const fields = readUpdateMask(request.updateMask, {
    name: request.name !== undefined,
    scopes: scopes.length > 0,
    store_ids: storeIds.length > 0,
    expires_in_seconds: expiresInSeconds !== undefined,
    limits: request.limits !== undefined,
  });
  return {
    ...(fields.has("name") && { name: readName(name) }),
    ...(fields.has("scopes") && { scopes: readScopeWords(projectId, scopes) }),
    ...(fields.has("store_ids") && { storeIds: readStoreIds(storeIds) }),
    ...(fields.has("expires_in_seconds") && { expiresInSeconds: readExpiry(expiresInSeconds) }),
    ...(fields.has("limits") && { limits: readLimits(request.limits, true) ?? null }),
  };
}

function readScopeWords(projectId: string, scopes: readonly string[]): string[] {
  if (scopes.length === 0) throw missingParameter("scopes");
  for (const [index, word] of scopes.entries()) {
    if (SCOPE_WORDS.includes(word)) continue;
    const supported = SCOPE_WORDS.map((known) => `'${known}'`).join(", ");
    throw invalidArgument(
      `scopes[${index}]`,
      `Invalid value: '${word}'. Supported values are: ${supported}.`,
    );
  }
  if (projectId !== DEFAULT_PROJECT && scopes.includes("operator")) {
    const message = `Invalid 'scopes': 'operator' shows the whole installation, so only keys of the project '${DEFAULT_PROJECT}' can have it.`;
    throw invalidArgument("scopes", message);
  }
  return [...new Set(scopes)];
}

function readStoreIds(storeIds: readonly string[]): string[] | null {
  checkLength("store_ids", storeIds.length, limits.key_stores_max);
  for (const [index, id] of storeIds.entries()) checkIdentifier(id, `store_ids[${index}]`);
  return storeIds.length === 0 ? null : [...new Set(storeIds)];
}

function readExpiry(seconds: bigint | undefined): number | null {
  if (seconds === undefined) return null;
  const { key_expiry_seconds_min: min, key_expiry_seconds_max: max } = limits;
  checkRange("expires_in_seconds", Number(seconds), min, max);
  return Number(seconds);
}

/** Validates the subject of a certificate: a URI, or "CN=" and a common name. */
function readSubject(subject: string): string {
  checkText(subject, "certificate_subject", limits.certificate_subject_chars_max);
  if (!/^(?:CN=.|[A-Za-z][A-Za-z0-9+.-]*:.)/.test(subject)) {
    const message = `Invalid 'certificate_subject': expected a URI, such as 'spiffe://example.org/indexer', or 'CN=' and a common name.`;
    throw invalidArgument("certificate_subject", message);
  }
  return subject;
}

/** Throws PERMISSION_DENIED when a key could do what the caller's key cannot. */
export function requireWithin(
  caller: Principal,
  key: Pick<AskedKey, "scopes" | "storeIds" | "limits">,
): void {
  const isWithin =
    [...readScopes(key.scopes)].every((scope) => caller.scopes.has(scope)) &&
    (caller.storeIds === undefined || (key.storeIds?.every((id) => caller.storeIds?.has(id)) ?? false));
  if (!isWithin) throw exceedsKey();
  requireWithinLimits(caller, key.limits ?? {});
}

/** Throws PERMISSION_DENIED when a key would get a limit above that of the caller's key. */
function requireWithinLimits({ limits: own = {} }: Principal, asked: Limits): void {
  if (LIMIT_NAMES.some((name) => (asked[name] ?? Infinity) > (own[name] ?? Infinity))) throw exceedsKey();
}
