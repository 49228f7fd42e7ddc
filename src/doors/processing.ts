import { setTimeout } from "node:timers/promises";
import {
  VectorStoreFileService,
  VectorStoreFileStatus,
  type VectorStoreFile,
} from "../../gen/pgquiver/v1/vector_store_files_pb.ts";
import type { Calls } from "../wire/doors/calls.ts";

/** How often a file that is processed is asked for: at first, and after a while. */
const POLL_MS_MIN = 50;
const POLL_MS_MAX = 2_000;

/** Waits until a file of a store is processed, at most `waitMs`, and returns the state it is in then. */
export async function waitUntilProcessed(
  { unary, signal }: Calls,
  attached: VectorStoreFile,
  waitMs: number,
): Promise<VectorStoreFile> {
  const { vectorStoreId, id: fileId } = attached;
  const endAt = performance.now() + waitMs;
  let file = attached;
  for (let pauseMs = POLL_MS_MIN; ; pauseMs = Math.min(pauseMs * 1.5, POLL_MS_MAX)) {
    if (file.status !== VectorStoreFileStatus.IN_PROGRESS || performance.now() + pauseMs > endAt) return file;
    await setTimeout(pauseMs, undefined, { signal });
    file = await unary(VectorStoreFileService.method.getVectorStoreFile, { vectorStoreId, fileId });
  }
}
