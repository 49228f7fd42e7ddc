import type { FastifyReply } from "fastify";
import type { Principal } from "../../api/principal.ts";
import type { Authenticator } from "./auth.ts";

/** Holds callers to the limits of how many requests they may make. */
export interface RequestLimiter {
  /** Counts a request. Throws RATE_LIMIT_EXCEEDED when it comes too early. */
  admit: (caller: Principal) => Principal | Promise<Principal>;
  /** The headers that tell a caller what is left; undefined: the caller has no limit. */
  headers: (caller: Principal) => Record<string, string> | undefined;
}

/** Makes an authenticator that counts the requests of the callers that it identifies, before their bodies are read. */
export function limitCallers(authenticator: Authenticator, limiter: RequestLimiter): Authenticator {
  return {
    isOpen: authenticator.isOpen,
    identify(credentials, scope) {
      const caller = authenticator.identify(credentials, scope);
      return caller instanceof Promise ? caller.then((one) => limiter.admit(one)) : limiter.admit(caller);
    },
    replyHeaders: (caller) => limiter.headers(caller),
  };
}

/** Sets the headers that every reply to a caller has. On the raw response, because Connect bypasses Fastify's reply. */
export function setReplyHeaders(
  { raw }: FastifyReply,
  { replyHeaders }: Authenticator,
  caller: Principal,
): void {
  for (const [name, value] of Object.entries(replyHeaders?.(caller) ?? {})) raw.setHeader(name, value);
}
