/**
 * Watchdog thread of a reading process: kills the process when its resident memory exceeds the limit or its
 * parent has ended. A separate thread, because a hostile file can keep the main thread's event loop blocked.
 */
import { workerData } from "node:worker_threads";
import { TOO_MUCH_MEMORY } from "./messages.ts";

const { rssBytesMax, parent, intervalMs } = workerData as {
  rssBytesMax: number;
  parent: number;
  intervalMs: number;
};

setInterval(() => {
  if (process.memoryUsage.rss() > rssBytesMax) process.kill(process.pid, TOO_MUCH_MEMORY);
  if (process.ppid !== parent) process.kill(process.pid, "SIGKILL");
}, intervalMs);
