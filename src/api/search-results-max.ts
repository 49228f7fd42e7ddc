import { createContextKey } from "@connectrpc/connect";
import { limits } from "../limits.ts";

/** Most results a caller may ask for; litellm-pgvector's `limit` raises it. */
export const searchResultsMax = createContextKey<number>(limits.search_results_max);
