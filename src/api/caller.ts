import { createContextKey } from "@connectrpc/connect";

/**
 * The caller of a call, for fair queueing and shares of slots: the API key, or "" where fewer than two keys are
 * configured, so that callers cannot be told apart. A secret: used for comparison only, never logged or sent.
 */
export const caller = createContextKey<string>("");
