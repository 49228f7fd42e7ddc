import { createHash, timingSafeEqual } from "node:crypto";
import { unauthenticated } from "../errors.ts";

/** Lets a request pass or throws UNAUTHENTICATED. */
export type Authenticate = (authorization: string | null | undefined) => void;

/**
 * Checks `Authorization: Bearer <key>` against the configured keys, in a time that depends neither
 * on the keys nor on which of them matches. Without keys every request passes: the server then
 * listens on loopback only. `onRefusal` is told of each refusal.
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

/** Digests have one length, which timingSafeEqual needs and which hides that of the key. */
function digest(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}
