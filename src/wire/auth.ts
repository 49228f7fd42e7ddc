import { hash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { ScopeSchema, type Scope } from "../../gen/pgquiver/v1/options_pb.ts";
import { requireScope, type Principal } from "../api/principal.ts";
import { mismatchedProject, unauthenticated } from "../errors.ts";
import { DEFAULT_PROJECT } from "../store-id.ts";

/** Finds out who makes a request. */
export interface Authenticator {
  /** Whether requests without a key pass: there is none. */
  isOpen: () => boolean;
  /**
   * Identifies the caller by the request's headers. Throws UNAUTHENTICATED, and PERMISSION_DENIED when the key lacks
   * `scope`; undefined: any key will do. Throws UNAVAILABLE when the keys cannot be read.
   */
  identify: (headers: IncomingHttpHeaders, scope: Scope | undefined) => Principal | Promise<Principal>;
}

/** The keys beside those of the environment. */
export interface Keys {
  /** Whether a text may be such a key. */
  isKey: (text: string) => boolean;
  /** Finds the principal of a key by its SHA-256 in base64url; undefined: there is no such key. */
  find: (digest: string) => Principal | undefined | Promise<Principal | undefined>;
  /** Whether there are, or were, such keys. */
  readonly exist: boolean;
}

/** Which keys callers need. */
export interface KeyOptions {
  /** The keys of the environment. */
  apiKeys: readonly string[];
  /** Undefined: there are none beside them. */
  keys?: Keys | undefined;
  /** Whether callers need a key even where none exists yet. */
  requiresKeys?: boolean | undefined;
}

/** The scopes of the keys in the environment, and of callers without a key where none is needed. */
const EVERYTHING: ReadonlySet<Scope> = new Set(ScopeSchema.values.map(({ number }) => number as Scope));

/** The principal where no key is needed: the server then listens on loopback only. */
const KEYLESS: Principal = {
  project: DEFAULT_PROJECT,
  keyId: "",
  scopes: EVERYTHING,
  storeIds: undefined,
  caller: "",
};

/**
 * Creates a check of `Authorization: Bearer <key>` against the keys of the environment, which have all rights in the
 * default project, and against the others. Keys are compared by their SHA-256 digests, so the duration of the
 * comparison reveals nothing of a key. `onRefusal` is called for each request that is refused for its key.
 */
export function createAuthenticator(
  { apiKeys, keys, requiresKeys = false }: KeyOptions,
  onRefusal: () => void,
): Authenticator {
  const isOpen = () => apiKeys.length === 0 && !requiresKeys && keys?.exist !== true;
  const known = new Map(apiKeys.map((key, index) => [digest(key), ofEnvironment(index + 1)]));
  // The holders of the only key there is are not told apart, and share everything.
  const untold = { ...ofEnvironment(1), caller: "" };
  const refuse = (message: string) => {
    onRefusal();
    return unauthenticated(message);
  };
  const accept = (found: Principal | undefined, headers: IncomingHttpHeaders, scope: Scope | undefined) => {
    if (found === undefined) throw refuse("Incorrect API key provided.");
    const asked = headers["openai-project"];
    if (asked !== undefined && asked !== "" && asked !== found.project) throw mismatchedProject();
    if (scope !== undefined) requireScope(found, scope);
    return found;
  };
  return {
    isOpen,
    identify(headers, scope) {
      if (isOpen()) return KEYLESS;
      const presented = presentedKey(headers.authorization);
      if (presented === undefined) {
        throw refuse(
          "You didn't provide an API key. Send it in an Authorization header: 'Authorization: Bearer <key>'.",
        );
      }
      const key = digest(presented);
      const own = known.get(key);
      if (own !== undefined) return apiKeys.length === 1 && keys?.exist !== true ? untold : own;
      const found = keys?.isKey(presented) === true ? keys.find(key) : undefined;
      if (found instanceof Promise) return found.then((one) => accept(one, headers, scope));
      return accept(found, headers, scope);
    },
  };
}

/** The principal of a key in the environment, by its number among them. */
function ofEnvironment(number: number): Principal {
  const keyId = `env_${number}`;
  return { ...KEYLESS, keyId, caller: `${DEFAULT_PROJECT}/${keyId}` };
}

function presentedKey(authorization: string | undefined): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
}

function digest(key: string): string {
  return hash("sha256", key, "base64url");
}
