import { Code, ConnectError } from "@connectrpc/connect";

/** The exit codes of the command line; docs/command-line.md lists them. */
export const EXIT = { done: 0, failed: 1, misused: 2, incomplete: 3 } as const;

/** A failure with an exit code of its own. */
export class Failed extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.failed) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** One line that says what failed and, where it is known, what to do. */
export function describeFailure(error: unknown): string {
  if (!(error instanceof ConnectError)) return error instanceof Error ? error.message : String(error);
  if (error.code === Code.Unavailable && error.cause instanceof Error)
    return `The service cannot be reached (${error.rawMessage}). --url or PGQUIVER_URL says where it is.`;
  if (error.code === Code.Unauthenticated)
    return `${error.rawMessage} --key or PGQUIVER_API_KEY has the key.`;
  return error.rawMessage;
}
