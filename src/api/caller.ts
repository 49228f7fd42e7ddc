import { createContextKey } from "@connectrpc/connect";

/**
 * The caller of a call, for fair queueing: the raw `Authorization` header, or "" without one. A secret: used
 * as a key for comparison only, never logged or sent.
 */
export const caller = createContextKey<string>("");
