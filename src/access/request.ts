import type { CreateApiKeyRequest } from "../../gen/pgquiver/v1/access_pb.ts";
import { checkLength, checkRange, checkText } from "../api/checks.ts";
import { checkIdentifier } from "../api/identifier.ts";
import type { Principal } from "../api/principal.ts";
import { readScopes, SCOPE_WORDS } from "../api/scope.ts";
import { exceedsKey, invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import { DEFAULT_PROJECT } from "../store-id.ts";
import type { NewKeyRow } from "./keys.ts";

/** Validates the name of a project or a key. Throws INVALID_ARGUMENT. */
export function readName(name: string): string {
  if (name.trim() === "") throw missingParameter("name");
  checkText(name, "name", limits.project_name_chars_max);
  return name;
}

/** What a request says of a new key. */
export type AskedKey = Pick<NewKeyRow, "name" | "scopes" | "storeIds" | "expiresInSeconds">;

/** Validates the request for a new key. Throws INVALID_ARGUMENT. */
export function readNewKey(
  request: Omit<CreateApiKeyRequest, "$typeName" | "$unknown">,
): AskedKey & { projectId: string } {
  const { projectId, scopes, storeIds, expiresInSeconds } = request;
  const name = readName(request.name);
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
  checkLength("store_ids", storeIds.length, limits.key_stores_max);
  for (const [index, id] of storeIds.entries()) checkIdentifier(id, `store_ids[${index}]`);
  if (expiresInSeconds !== undefined) {
    const { key_expiry_seconds_min: min, key_expiry_seconds_max: max } = limits;
    checkRange("expires_in_seconds", Number(expiresInSeconds), min, max);
  }
  return {
    projectId,
    name,
    scopes: [...new Set(scopes)],
    storeIds: storeIds.length === 0 ? null : [...new Set(storeIds)],
    expiresInSeconds: expiresInSeconds === undefined ? null : Number(expiresInSeconds),
  };
}

/** Throws PERMISSION_DENIED when a new key could do what the caller's key cannot. */
export function requireWithin(caller: Principal, asked: AskedKey): void {
  const isWithin =
    [...readScopes(asked.scopes)].every((scope) => caller.scopes.has(scope)) &&
    (caller.storeIds === undefined || (asked.storeIds?.every((id) => caller.storeIds?.has(id)) ?? false));
  if (!isWithin) throw exceedsKey();
}
