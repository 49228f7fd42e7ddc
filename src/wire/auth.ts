import { createHash, timingSafeEqual } from "node:crypto";
import { unauthenticated } from "../errors.ts";

/** Checks an `Authorization` header. Throws UNAUTHENTICATED. */
export type Authenticate = (authorization: string | null | undefined) => void;

/**
 * Creates a check of `Authorization: Bearer <key>` against the configured keys, in constant time: its
 * duration reveals neither the keys nor which of them matches. Without keys every request passes; the server
 * then listens on loopback only. `onRefusal` is called for each refused request.
 */
export function createAuthenticator(keys: readonly string[], onRefusal: () => void): Authenticate {
  if (keys.length === 0) return () => undefined;
  const digests = keys.map(digest);
  const refuse = (message: string) => {
    onRefusal();
    return unauthenticated(message);
  };
  return (authorization) => {
    const presented = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
    if (presented === undefined) {
      throw refuse(
        "You didn't provide an API key. Send it in an Authorization header: 'Authorization: Bearer <key>'.",
      );
    }
    const candidate = digest(presented);
    let matches = false;
    for (const known of digests) matches = timingSafeEqual(known, candidate) || matches;
    if (!matches) throw refuse("Incorrect API key provided.");
  };
}

/**
 * Hashes a key: timingSafeEqual needs equal lengths, and the digest's fixed length hides the length of the
 * key.
 */
function digest(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}
