import { keep } from "../../api/fresh-cache.ts";
import type { FastifyBaseLogger } from "fastify";
import type { Scope } from "../../../gen/pgquiver/v1/options_pb.ts";
import type { Principal } from "../../api/principal.ts";
import { scopeWord } from "../../api/scope.ts";

/** Least time between two lines for a key. */
const QUIET_MS = 10_000;
/** Keys whose last line is remembered. */
const KEYS_MAX = 1_000;

/**
 * Logs calls that are refused because a key lacks a scope: which key, call and scope. A key that tries again and again
 * gets a line every ten seconds, with the number of refusals since the one before.
 */
export function createScopeLog(
  log: FastifyBaseLogger,
  now = () => performance.now(),
): (caller: Principal, scope: Scope, path: string) => void {
  const keys = new Map<string, { loggedAtMs: number; unlogged: number }>();
  return ({ project, keyId }, scope, path) => {
    const name = `${project}/${keyId}`;
    const last = keys.get(name);
    if (last !== undefined && now() - last.loggedAtMs < QUIET_MS) return void last.unlogged++;
    const line = { project, key: keyId, call: path, scope: scopeWord(scope) };
    const { unlogged = 0 } = last ?? {};
    log.warn(unlogged === 0 ? line : { ...line, unlogged }, "A key lacks the scope of a call");
    keep(keys, name, { loggedAtMs: now(), unlogged: 0 }, KEYS_MAX);
  };
}
