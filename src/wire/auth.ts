import { createHash, timingSafeEqual } from "node:crypto";
import { unauthenticated } from "../errors.ts";

/** Reads `Authorization` headers. */
export interface Authenticator {
  /** Whether `check` would pass. */
  accepts: (authorization: string | null | undefined) => boolean;
  /** Throws UNAUTHENTICATED. */
  check: (authorization: string | null | undefined) => void;
  /**
   * The caller, by a header that `check` accepts: its key, however the header spells the rest; "" where there are
   * fewer than two keys, so that callers cannot be told apart.
   */
  callerOf: (authorization: string | null | undefined) => string;
}

/**
 * Creates a check of `Authorization: Bearer <key>` against the configured keys, in constant time: its
 * duration reveals neither the keys nor which of them matches. Without keys every request passes; the server
 * then listens on loopback only. `onRefusal` is called for each refused request.
 */
export function createAuthenticator(keys: readonly string[], onRefusal: () => void): Authenticator {
  if (keys.length === 0) return { accepts: () => true, check: () => undefined, callerOf: () => "" };
  const digests = keys.map(digest);
  const refuse = (message: string) => {
    onRefusal();
    return unauthenticated(message);
  };
  const callerOf = (authorization: string | null | undefined) =>
    keys.length === 1 ? "" : (presentedKey(authorization) ?? "");
  const matches = (presented: string) => {
    const candidate = digest(presented);
    let isKnown = false;
    for (const known of digests) isKnown = timingSafeEqual(known, candidate) || isKnown;
    return isKnown;
  };
  const accepts = (authorization: string | null | undefined) => matches(presentedKey(authorization) ?? "");
  const check = (authorization: string | null | undefined) => {
    const presented = presentedKey(authorization);
    if (presented === undefined) {
      throw refuse(
        "You didn't provide an API key. Send it in an Authorization header: 'Authorization: Bearer <key>'.",
      );
    }
    if (!matches(presented)) throw refuse("Incorrect API key provided.");
  };
  return { accepts, check, callerOf };
}

function presentedKey(authorization: string | null | undefined): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
}

/**
 * Hashes a key: timingSafeEqual needs equal lengths, and the digest's fixed length hides the length of the
 * key.
 */
function digest(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}
