import { createContextKey } from "@connectrpc/connect";
import type { Scope } from "../../gen/pgquiver/v1/options_pb.ts";
import { missingScope } from "../errors.ts";
import type { Limits } from "./rates/limits.ts";
import type { StoreOwner } from "../store-id.ts";
import { scopeWord } from "./scope.ts";

/** Who makes a call. */
export interface Principal extends StoreOwner {
  /** What the caller is known by; of a database's key, its row says whether it is that of a certificate. */
  kind: "anonymous" | "environment_key" | "api_key" | "token";
  /** Identifies the key in the log; never the key. "" where the service takes calls without a key. */
  keyId: string;
  /** What the key may do. */
  scopes: ReadonlySet<Scope>;
  /**
   * For whom the caller reads in stores that restrict their readers, as rows name them; undefined: for the service, which
   * reads everything, as keys do.
   */
  readers?: ReadonlySet<string> | undefined;
  /**
   * Identifies the caller for fair queueing and shares of slots; "" where fewer than two keys are known, so that
   * callers cannot be told apart.
   */
  caller: string;
  /** The limits of the key itself, within those of its project. */
  limits?: Limits | undefined;
  /** When a token expires; a key's row says when that does. */
  expiresAt?: Date | undefined;
}

/** Without rights: a front end that forgets to set the principal grants nothing. */
export const NOBODY: Principal = {
  kind: "anonymous",
  project: "",
  keyId: "",
  scopes: new Set(),
  storeIds: undefined,
  caller: "",
};

/** The principal of a call. */
export const principal = createContextKey<Principal>(NOBODY);

/** Whose key lacked the scope that an error is about. */
const refused = new WeakMap<Error, Principal>();

/** Throws PERMISSION_DENIED unless the key has the scope. */
export function requireScope(caller: Principal, scope: Scope): void {
  if (caller.scopes.has(scope)) return;
  const error = missingScope(scopeWord(scope));
  refused.set(error, caller);
  throw error;
}

/** The principal whom an error of `requireScope` refused; undefined for other errors. */
export function refusedPrincipal(error: unknown): Principal | undefined {
  return refused.get(error as Error);
}
