import type { ConnectError } from "@connectrpc/connect";
import { deadlineExceeded, invalidArgument } from "../../errors.ts";
import { readGrpcTimeout, TIMER_MS_MAX } from "../headers.ts";

/** Starts the timer of a call's deadline, from the header `grpc-timeout`; undefined where the call has none. */
export function setDeadline(
  header: string | undefined,
  giveUp: (error: ConnectError) => void,
): NodeJS.Timeout | undefined {
  if (header === undefined) return undefined;
  const timeoutMs = readGrpcTimeout(header);
  if (timeoutMs === undefined) {
    const message = `Invalid 'grpc-timeout': expected up to 8 digits and a unit, but got '${header}'.`;
    throw invalidArgument("grpc-timeout", message, "INVALID_REQUEST");
  }
  return setTimeout(
    () => giveUp(deadlineExceeded("The call exceeded its deadline.")),
    Math.min(timeoutMs, TIMER_MS_MAX),
  );
}
