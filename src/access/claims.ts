import { createHash } from "node:crypto";
import type { JWTPayload } from "jose";
import type { Principal } from "../api/principal.ts";
import { readScopes } from "../api/scope.ts";
import { unauthenticated } from "../errors.ts";
import { limits } from "../limits.ts";
import { isStorable } from "../postgres/text.ts";
import { DEFAULT_PROJECT } from "../store-id.ts";

/** The claims that say what a token's holder may do. Each is the name of a claim, or a path with points to one. */
export interface ClaimNames {
  project: string;
  scopes: string;
  /** Undefined: tokens are not restricted to some stores. */
  stores: string | undefined;
  readers: string;
}

/** Characters of the subject in the log. */
const SUBJECT_CHARS = 64;

/** Converts the claims of a verified token to a principal. Throws UNAUTHENTICATED. */
export function toPrincipal(claims: JWTPayload, names: ClaimNames): Principal {
  const project = findClaim(claims, names.project);
  if (typeof project !== "string" || project === "")
    throw unauthenticated(`The token does not name a project: it has no claim '${names.project}'.`);
  const words = readWords(claims, names.scopes) ?? [];
  const keyId = `jwt:${describeSubject(claims)}`;
  return {
    kind: "token",
    project,
    keyId,
    // The scope shows the whole installation: no key of another project can have it either.
    scopes: readScopes(project === DEFAULT_PROJECT ? words : words.filter((word) => word !== "operator")),
    // Where tokens are to name their stores, a token that names none has none.
    readers: new Set(readWords(claims, names.readers)),
    storeIds: names.stores === undefined ? undefined : new Set(readWords(claims, names.stores)),
    caller: `${project}/${keyId}`,
    ...(claims.exp !== undefined && { expiresAt: new Date(claims.exp * 1000) }),
  };
}

/** Reads a list of words: an array of texts, or a text of words with spaces between them. Throws UNAUTHENTICATED. */
function readWords(claims: JWTPayload, name: string): string[] | undefined {
  const value = findClaim(claims, name);
  if (value === undefined || value === null) return undefined;
  const words = typeof value === "string" ? value.split(" ").filter((word) => word !== "") : value;
  if (!Array.isArray(words) || words.some((word) => typeof word !== "string"))
    throw unauthenticated(`The token's claim '${name}' is neither a text nor a list of texts.`);
  if (words.length > limits.token_words_max)
    throw unauthenticated(`The token's claim '${name}' has more than ${limits.token_words_max} words.`);
  return words;
}

/** Finds a claim by its whole name, such as `https://example.com/project`, else by a path: `access.project`. */
function findClaim(claims: JWTPayload, name: string): unknown {
  const own = (holder: unknown, key: string): unknown =>
    typeof holder === "object" && holder !== null && Object.hasOwn(holder, key)
      ? (holder as Record<string, unknown>)[key]
      : undefined;
  return own(claims, name) ?? name.split(".").reduce<unknown>(own, claims);
}

/** The subject for the log: short, on one line, and never that of somebody else. */
function describeSubject(claims: JWTPayload): string {
  const found = claims.sub ?? claims["client_id"];
  const subject = typeof found === "string" ? found : "";
  const clean = subject.replace(/[^\x21-\x7e]/g, "?").slice(0, SUBJECT_CHARS);
  return clean === subject
    ? subject
    : `${clean}~${createHash("sha256").update(subject).digest("hex").slice(0, 8)}`;
}

/** Whether a claim can name a project at all: the database is not asked for what it could not store. */
export function canBeProject(id: string): boolean {
  return id.length <= limits.id_chars_max && isStorable(id);
}
