import type { Door } from "../wire/doors/calls.ts";
import { mcp } from "./mcp/route.ts";

/** The APIs of other products that the service speaks. */
export const doors: readonly Door[] = [mcp];
