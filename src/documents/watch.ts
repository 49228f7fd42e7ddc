/**
 * The thread that ends a reading process which takes too much memory, or whose parent is gone. The other thread may
 * be busy for as long as a hostile file likes, and sees neither.
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
