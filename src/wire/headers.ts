import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { invalidArgument } from "../errors.ts";

/** Headers of which a second one would let a proxy and the service read different requests (RFC 9110, 5.3). */
const SINGULAR = ["host", "authorization"];

/** Refuses a request that has a singular header twice; Node would keep the first and drop the others. */
export function refuseRepeated({ rawHeaders }: Pick<IncomingMessage, "rawHeaders">): void {
  const names = rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
  for (const name of SINGULAR) {
    if (names.indexOf(name) !== names.lastIndexOf(name))
      throw invalidArgument(undefined, `The header '${name}' is given more than once.`, "INVALID_REQUEST");
  }
}

/** The longest time a timer of Node's can run, in seconds, as `grpc-timeout` and in ms, as `connect-timeout-ms`. */
const TIMEOUT_S_MAX = 2_147_483;
const TIMEOUT_MS_MAX = 2_147_483_647;

/** Seconds of the units of `grpc-timeout` that can be too long. */
const LONG_UNITS_S: Record<string, number> = { H: 3_600, M: 60, S: 1 };

/**
 * Shortens deadlines of more than 24 days to what a timer can run: Connect would set a timer that overflows, and the
 * call would end at once with DEADLINE_EXCEEDED.
 */
export function clampTimeouts(headers: IncomingHttpHeaders): void {
  const [, count = "", unit = ""] = /^(\d{1,8})([HMS])$/.exec(String(headers["grpc-timeout"])) ?? [];
  if (Number(count) * (LONG_UNITS_S[unit] ?? 0) > TIMEOUT_S_MAX)
    headers["grpc-timeout"] = `${TIMEOUT_S_MAX}S`;
  if (Number(headers["connect-timeout-ms"]) > TIMEOUT_MS_MAX)
    headers["connect-timeout-ms"] = String(TIMEOUT_MS_MAX);
}
