import { createContextKey } from "@connectrpc/connect";
import { limits } from "../limits.ts";

/**
 * Context key: the maximum of `max_num_results`. Requests with litellm-pgvector's `limit` have a higher
 * maximum.
 */
export const searchResultsMax = createContextKey<number>(limits.search_results_max);
