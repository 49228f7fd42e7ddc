import { once } from "node:events";
import { createPoints } from "../../bench/support/points.ts";
import { ingest, type IngestOrder } from "./work.ts";

// The process that `ingestApart` starts: loads rows as its parent says, and answers with the rows per second.
const [{ server, spread, seconds }] = (await once(process, "message")) as [IngestOrder];
const perSecond = await ingest(server, createPoints(spread), seconds);
process.send?.(perSecond, () => process.disconnect());
