import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import {
  VectorStoreFileStatus,
  type VectorStoreFileBatchItemSchema,
  type VectorStoreFileService,
} from "../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { watchToEnd } from "./watch.ts";

/** Files of a batch: the API's limit. */
export const BATCH_FILES_MAX = 2_000;

/**
 * Attaches at most BATCH_FILES_MAX files as a batch and waits until the last is processed. Returns those that failed, and
 * why.
 */
export async function attach(
  client: Client<typeof VectorStoreFileService>,
  vectorStoreId: string,
  files: MessageInitShape<typeof VectorStoreFileBatchItemSchema>[],
  onProgress: (done: { completed: number; failed: number }) => void,
): Promise<{ id: string; error: string }[]> {
  const { id: batchId } = await client.createVectorStoreFileBatch({ vectorStoreId, files });
  const open = () => client.watchVectorStoreFileBatch({ vectorStoreId, batchId }, { timeoutMs: 0 });
  for await (const { fileCounts } of watchToEnd(open)) {
    const { completed = 0n, failed = 0n, cancelled = 0n } = fileCounts ?? {};
    onProgress({ completed: Number(completed), failed: Number(failed + cancelled) });
  }
  const failures: { id: string; error: string }[] = [];
  let after: string | undefined;
  do {
    const page = await client.listVectorStoreFileBatchFiles({
      vectorStoreId,
      batchId,
      filter: VectorStoreFileStatus.FAILED,
      limit: 100,
      ...(after !== undefined && { after }),
    });
    failures.push(
      ...page.data.map(({ id, lastError }) => ({ id, error: lastError?.message ?? "It failed." })),
    );
    after = page.hasMore ? page.lastId : undefined;
  } while (after !== undefined);
  return failures;
}
