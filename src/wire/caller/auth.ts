import { hash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { Socket } from "node:net";
import { Code, ConnectError } from "@connectrpc/connect";
import { ScopeSchema, type Scope } from "../../../gen/pgquiver/v1/options_pb.ts";
import { requireScope, type Principal } from "../../api/principal.ts";
import { mismatchedProject, unauthenticated } from "../../errors.ts";
import { DEFAULT_PROJECT } from "../../store-id.ts";
import { certificateSubjects } from "./client-certificate.ts";
import type { RefuseForeign } from "./web-pages.ts";

/** What tells who makes a request. */
export interface Credentials {
  headers: IncomingHttpHeaders;
  /** The route or the RPC, for the log. */
  path: string;
  /** The connection, for its client certificate. */
  socket: Socket | undefined;
}

/** Finds out who makes a request. */
export interface Authenticator {
  /** Whether requests without a key pass: there is none. */
  isOpen: () => boolean;
  /**
   * Identifies the caller of a request. Throws UNAUTHENTICATED, and PERMISSION_DENIED when the key lacks `scope`;
   * undefined: any key will do. Throws UNAVAILABLE when the keys cannot be read. Returns a promise only where the
   * database or the identity provider has to be asked.
   */
  identify: (credentials: Credentials, scope: Scope | undefined) => Principal | Promise<Principal>;
  /** Headers for every reply to a caller, such as what is left of a limit. */
  replyHeaders?: (caller: Principal) => Record<string, string> | undefined;
}

/** The keys beside those of the environment. */
export interface Keys {
  /** Whether a text may be such a key. */
  isKey: (text: string) => boolean;
  /** The SHA-256 in base64url by which the rights of a certificate's holders are found. */
  certificateDigest: (subject: string) => string;
  /** Finds the principal of a key by its SHA-256 in base64url; undefined: there is no such key. */
  find: (digest: string) => Principal | undefined | Promise<Principal | undefined>;
  /** Whether there are, or were, such keys. */
  readonly exist: boolean;
}

/** The tokens of an identity provider. */
export interface Tokens {
  /** Whether a text may be a token. */
  isToken: (text: string) => boolean;
  /** Finds the principal of a token, whose SHA-256 in base64url is given too. Throws UNAUTHENTICATED. */
  find: (token: string, digest: string) => Principal | Promise<Principal>;
}

/** Which keys callers need. */
export interface KeyOptions {
  /** The keys of the environment. */
  apiKeys: readonly string[];
  /** Undefined: there are none beside them. */
  keys?: Keys | undefined;
  /** Undefined: tokens are not taken. */
  tokens?: Tokens | undefined;
  /** Whether callers need a key even where none exists yet. */
  requiresKeys?: boolean | undefined;
  /** Refuses web pages that callers with a certificate do not mean; undefined: certificates are not asked for. */
  refusePages?: RefuseForeign | undefined;
}

/** The scopes of the keys in the environment, and of callers without a key where none is needed. */
const EVERYTHING: ReadonlySet<Scope> = new Set(ScopeSchema.values.map(({ number }) => number as Scope));

/** The principal where no key is needed: the server then listens on loopback only. */
const KEYLESS: Principal = {
  kind: "anonymous",
  project: DEFAULT_PROJECT,
  keyId: "",
  scopes: EVERYTHING,
  storeIds: undefined,
  caller: "",
};

/** Told of requests that are refused. */
export interface RefusalObserver {
  /** A key, a token or a certificate is missing or wrong. */
  onUnknown: () => void;
  /** A key lacks a scope. */
  onMissingScope: (caller: Principal, scope: Scope, path: string) => void;
}

/**
 * Creates a check of `Authorization: Bearer <key>` against the keys of the environment, which have all rights in the
 * default project, against the others, and against tokens; without the header, of the connection's client certificate.
 * Keys are compared by their SHA-256 digests, so the duration of the comparison reveals nothing of a key.
 */
export function createAuthenticator(options: KeyOptions, observer: RefusalObserver): Authenticator {
  const { apiKeys, keys, tokens, requiresKeys = false, refusePages } = options;
  const isOpen = () => apiKeys.length === 0 && !requiresKeys && tokens === undefined && keys?.exist !== true;
  const findBearer = createBearerFinder(options, observer.onUnknown);
  const findHolder = keys === undefined ? () => undefined : createHolderFinder(keys);
  const refuse = (message: string) => {
    observer.onUnknown();
    return unauthenticated(message);
  };
  const accept = (found: Principal, { headers, path }: Credentials, scope: Scope | undefined) => {
    const asked = headers["openai-project"];
    if (asked !== undefined && asked !== "" && asked !== found.project) throw mismatchedProject();
    if (scope !== undefined && !found.scopes.has(scope)) {
      observer.onMissingScope(found, scope, path);
      requireScope(found, scope);
    }
    return found;
  };
  const acceptBearer = (found: Principal | undefined, sent: Credentials, scope: Scope | undefined) => {
    if (found === undefined) throw refuse("Incorrect API key provided.");
    return found.kind === "environment_key" ? found : accept(found, sent, scope);
  };
  const acceptHolder = (found: Principal | undefined, sent: Credentials, scope: Scope | undefined) => {
    if (found === undefined) {
      throw refuse(
        "You didn't provide an API key, and your client certificate's subject has been given no rights.",
      );
    }
    refusePages?.(sent.headers);
    return accept(found, sent, scope);
  };
  return {
    isOpen,
    identify(sent, scope) {
      if (isOpen()) return KEYLESS;
      const { headers, socket } = sent;
      if (headers.authorization === undefined && refusePages !== undefined && socket !== undefined) {
        const holder = findHolder(socket);
        if (holder instanceof Promise) return holder.then((one) => acceptHolder(one, sent, scope));
        return acceptHolder(holder, sent, scope);
      }
      const presented = presentedKey(headers.authorization);
      if (presented === undefined) {
        throw refuse(
          "You didn't provide an API key. Send it in an Authorization header: 'Authorization: Bearer <key>'.",
        );
      }
      const found = findBearer(presented);
      if (found instanceof Promise) return found.then((one) => acceptBearer(one, sent, scope));
      return acceptBearer(found, sent, scope);
    },
  };
}

type Found = Principal | undefined;

/** Creates a search for the principal of a bearer key or token. `onUnknown` is called for a token that is refused. */
function createBearerFinder(
  { apiKeys, keys, tokens }: KeyOptions,
  onUnknown: () => void,
): (presented: string) => Found | Promise<Found> {
  const known = new Map(apiKeys.map((key, index) => [digest(key), ofEnvironment(index + 1)]));
  // The holders of the only key there is are not told apart, and share everything.
  const untold = { ...ofEnvironment(1), caller: "" };
  const isOnly = () => apiKeys.length === 1 && tokens === undefined && keys?.exist !== true;
  const count = (error: unknown) => {
    if (error instanceof ConnectError && error.code === Code.Unauthenticated) onUnknown();
    throw error;
  };
  const findToken = (token: string, key: string) => {
    try {
      const found = tokens?.find(token, key);
      return found instanceof Promise ? found.catch(count) : found;
    } catch (error) {
      return count(error);
    }
  };
  return (presented) => {
    const key = digest(presented);
    const own = known.get(key);
    if (own !== undefined) return isOnly() ? untold : own;
    if (keys?.isKey(presented) === true) return keys.find(key);
    return tokens?.isToken(presented) === true ? findToken(presented, key) : undefined;
  };
}

/** Creates a search for the principal of a connection's client certificate, whose subjects are read once. */
function createHolderFinder(keys: Keys): (socket: Socket) => Found | Promise<Found> {
  const known = new WeakMap<Socket, readonly string[]>();
  const findFirst = (digests: readonly string[], from = 0): Found | Promise<Found> => {
    for (let index = from; index < digests.length; index++) {
      const found = keys.find(digests[index] as string);
      if (found instanceof Promise) return found.then((one) => one ?? findFirst(digests, index + 1));
      if (found !== undefined) return found;
    }
    return undefined;
  };
  return (socket) => {
    let digests = known.get(socket);
    if (digests === undefined) {
      digests = certificateSubjects(socket).map(keys.certificateDigest);
      known.set(socket, digests);
    }
    return findFirst(digests);
  };
}

/** The principal of a key in the environment, by its number among them. */
function ofEnvironment(number: number): Principal {
  const keyId = `env_${number}`;
  return { ...KEYLESS, kind: "environment_key", keyId, caller: `${DEFAULT_PROJECT}/${keyId}` };
}

function presentedKey(authorization: string | undefined): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
}

function digest(key: string): string {
  return hash("sha256", key, "base64url");
}
