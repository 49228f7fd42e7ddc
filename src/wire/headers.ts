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

/**
 * Maximum delay of a Node timer (2^31 - 1 ms): in seconds for `grpc-timeout`, in ms for `connect-timeout-ms`.
 */
const TIMEOUT_S_MAX = 2_147_483;
const TIMEOUT_MS_MAX = 2_147_483_647;

/** Seconds per unit of `grpc-timeout`, for the units in which a timeout can exceed the maximum. */
const LONG_UNITS_S: Record<string, number> = { H: 3_600, M: 60, S: 1 };

/**
 * Limits deadlines to the maximum of a Node timer, 24 days. With a longer one Connect's timer would overflow
 * and fire at once, and the call would fail with DEADLINE_EXCEEDED.
 */
export function clampTimeouts(headers: IncomingHttpHeaders): void {
  const [, count = "", unit = ""] = /^(\d{1,8})([HMS])$/.exec(String(headers["grpc-timeout"])) ?? [];
  if (Number(count) * (LONG_UNITS_S[unit] ?? 0) > TIMEOUT_S_MAX)
    headers["grpc-timeout"] = `${TIMEOUT_S_MAX}S`;
  if (Number(headers["connect-timeout-ms"]) > TIMEOUT_MS_MAX)
    headers["connect-timeout-ms"] = String(TIMEOUT_MS_MAX);
}
