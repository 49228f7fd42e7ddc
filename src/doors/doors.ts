import type { Door } from "../wire/doors/calls.ts";
import { dify } from "./dify/route.ts";
import { litellm } from "./litellm/route.ts";
import { ragApi } from "./rag-api/route.ts";
import { mcp } from "./mcp/route.ts";

/** The APIs of other products that the service speaks. */
export const doors: readonly Door[] = [mcp, dify, litellm, ragApi];
