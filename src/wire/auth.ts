import { hash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { ScopeSchema, type Scope } from "../../gen/pgquiver/v1/options_pb.ts";
import { DEFAULT_PROJECT, requireScope, type Principal } from "../api/principal.ts";
import { unauthenticated } from "../errors.ts";

/** Finds out who makes a request. */
export interface Authenticator {
  /**
   * Identifies the caller by the request's headers. Throws UNAUTHENTICATED, and PERMISSION_DENIED when the key lacks
   * `scope`; undefined: any key will do.
   */
  identify: (headers: IncomingHttpHeaders, scope: Scope | undefined) => Principal | Promise<Principal>;
}

/** The scopes of the keys in the environment, and of callers without a key where none is needed. */
const EVERYTHING: ReadonlySet<Scope> = new Set(ScopeSchema.values.map(({ number }) => number as Scope));

/** The principal where no key is configured: the server then listens on loopback only. */
const KEYLESS: Principal = {
  project: DEFAULT_PROJECT,
  keyId: "",
  scopes: EVERYTHING,
  storeIds: undefined,
  caller: "",
};

/**
 * Creates a check of `Authorization: Bearer <key>` against the configured keys, which have all rights in the default
 * project. Keys are compared by their SHA-256 digests, so the duration of the comparison reveals nothing of a key.
 * Without keys every request passes. `onRefusal` is called for each request that is refused for its key.
 */
export function createAuthenticator(keys: readonly string[], onRefusal: () => void): Authenticator {
  if (keys.length === 0) return { identify: () => KEYLESS };
  const known = new Map(keys.map((key, index) => [digest(key), ofEnvironment(index + 1, keys.length)]));
  const refuse = (message: string) => {
    onRefusal();
    return unauthenticated(message);
  };
  return {
    identify({ authorization }, scope) {
      const presented = presentedKey(authorization);
      if (presented === undefined) {
        throw refuse(
          "You didn't provide an API key. Send it in an Authorization header: 'Authorization: Bearer <key>'.",
        );
      }
      const found = known.get(digest(presented));
      if (found === undefined) throw refuse("Incorrect API key provided.");
      if (scope !== undefined) requireScope(found, scope);
      return found;
    },
  };
}

/** The principal of a key in the environment, by its number among them. */
function ofEnvironment(number: number, keys: number): Principal {
  const keyId = `env_${number}`;
  return { ...KEYLESS, keyId, caller: keys === 1 ? "" : `${DEFAULT_PROJECT}/${keyId}` };
}

function presentedKey(authorization: string | undefined): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
}

function digest(key: string): string {
  return hash("sha256", key, "base64url");
}
