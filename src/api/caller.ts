import { createContextKey } from "@connectrpc/connect";

/**
 * Who makes a call, for fair queueing: the `Authorization` header as it came, "" without one. A secret, so it is
 * compared and never shown.
 */
export const caller = createContextKey<string>("");
