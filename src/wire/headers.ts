import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { invalidArgument } from "../errors.ts";

/**
 * Headers that must not be repeated (RFC 9110, 5.3): a proxy and the service could use different values
 * (request smuggling).
 */
const SINGULAR = ["host", "authorization"];

/** Throws INVALID_ARGUMENT for a repeated singular header, of which Node would silently keep the first. */
export function refuseRepeated({ rawHeaders }: Pick<IncomingMessage, "rawHeaders">): void {
  const names = rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
  for (const name of SINGULAR) {
    if (names.indexOf(name) !== names.lastIndexOf(name))
      throw invalidArgument(undefined, `The header '${name}' is given more than once.`, "INVALID_REQUEST");
  }
}

/**
 * Whether the client expects what the service does not do (RFC 9110, 10.1.1): anything but `100-continue`, which Node
 * answers. HTTP/1.0 has no expectations.
 */
export function hasUnknownExpectation({
  headers,
  httpVersion,
}: Pick<IncomingMessage, "headers" | "httpVersion">): boolean {
  const { expect } = headers;
  return expect !== undefined && httpVersion !== "1.0" && expect.trim().toLowerCase() !== "100-continue";
}

/** Maximum delay of a Node timer, 2^31 - 1 ms or 24 days: a timer with a longer delay fires at once. */
export const TIMER_MS_MAX = 2_147_483_647;

/** Milliseconds per unit of the header `grpc-timeout`. */
const UNITS_MS: Record<string, number> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** Reads a `grpc-timeout` in milliseconds; undefined when it is not 1 to 8 digits and a unit. */
export function readGrpcTimeout(header: string): number | undefined {
  const [, count, unit = ""] = /^(\d{1,8})([HMSmun])$/.exec(header) ?? [];
  return count === undefined ? undefined : Number(count) * (UNITS_MS[unit] as number);
}

/**
 * Limits deadlines to the maximum of a Node timer. With a longer one Connect's timer would overflow and fire at once,
 * and the call would fail with DEADLINE_EXCEEDED.
 */
export function clampTimeouts(headers: IncomingHttpHeaders): void {
  if ((readGrpcTimeout(String(headers["grpc-timeout"])) ?? 0) > TIMER_MS_MAX)
    headers["grpc-timeout"] = `${Math.floor(TIMER_MS_MAX / 1000)}S`;
  if (Number(headers["connect-timeout-ms"]) > TIMER_MS_MAX)
    headers["connect-timeout-ms"] = String(TIMER_MS_MAX);
}
