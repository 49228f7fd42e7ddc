import type { Command } from "commander";
import { IndexSchema, IndexService, type Index } from "../../../gen/pgquiver/v1/indexes_pb.ts";
import { writeMessage } from "../../wire/rest/json-writer.ts";
import { Connection, type GlobalOptions } from "../connection.ts";
import { EXIT, Failed } from "../exit.ts";
import { formatBytes, formatDuration } from "../output.ts";
import { showState } from "../watch.ts";

/** Adds the command that shows a store's index, and waits until it is ready. */
export function addIndex(program: Command): void {
  program
    .command("index")
    .description("show the vector index of a store")
    .command("status <store>")
    .description("show the state of a store's index")
    .option("--watch", "go on until the index is ready, or its build has failed")
    .action(async (store: string, { watch }: { watch?: boolean }) => {
      const { json, ...options } = program.opts<GlobalOptions>();
      const client = new Connection(options).client(IndexService);
      const first = await client.getIndex({ vectorStoreId: store });
      const open =
        watch === true ? () => client.watchIndex({ vectorStoreId: store }, { timeoutMs: 0 }) : undefined;
      const index = await showState(IndexSchema, first, { describe, isJson: json === true, open });
      if (open !== undefined && index.lastError !== undefined) throw new Failed(index.lastError, EXIT.failed);
    });
}

function describe(index: Index): string {
  const { progress, rows, indexBytes, lastError, blockedBy, work } = index;
  const word = String(writeMessage(IndexSchema, index)["state"]);
  const share = progress === undefined ? "" : ` ${Math.floor(progress * 100)} %`;
  const waits = blockedBy.length > 0 ? `, waits for ${blockedBy.map(({ name }) => name).join(", ")}` : "";
  const failed = lastError === undefined ? "" : `, failed: ${lastError}`;
  const left = work?.secondsLeft === undefined ? "" : `, ${formatDuration(work.secondsLeft)} left`;
  const phase = work === undefined ? "" : ` (${work.phase}, ${work.done} of ${work.total}${left})`;
  return `${word}${share}${phase}: ${rows} rows, index ${formatBytes(Number(indexBytes))}${waits}${failed}`;
}
