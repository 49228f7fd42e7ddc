import type { Command } from "commander";
import { ModelService } from "../../../gen/pgquiver/v1/models_pb.ts";
import {
  ReembeddingStatus as Status,
  VectorStoreReembeddingSchema,
  VectorStoreService,
  type VectorStoreReembedding,
} from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { writeMessage } from "../../wire/rest/json-writer.ts";
import { Connection, type GlobalOptions } from "../connection.ts";
import { EXIT, Failed } from "../exit.ts";
import { formatDuration } from "../output.ts";
import { showState } from "../watch.ts";

interface ReembedOptions {
  model?: string;
  watch?: boolean;
  cancel?: boolean;
}

/** Adds the command that embeds a store again, with the service's present model. */
export function addReembed(program: Command, stores: Command): void {
  stores
    .command("reembed <id>")
    .description("embed a store again, with the service's present model, while it is used")
    .option("--model <name>", "the model that is meant: nothing is done where the service has another one")
    .option("--watch", "go on until the store has its new vectors")
    .option("--cancel", "end it: the store keeps its old vectors")
    .action(async (vectorStoreId: string, { model, watch, cancel }: ReembedOptions) => {
      const { json, ...options } = program.opts<GlobalOptions>();
      const connection = new Connection(options);
      const client = connection.client(VectorStoreService);
      // NOT_FOUND for another model than the service's.
      if (model !== undefined) await connection.client(ModelService).getModel({ model });
      const first = await (cancel === true
        ? client.cancelVectorStoreReembedding({ vectorStoreId })
        : client.reembedVectorStore({ vectorStoreId }));
      const open =
        watch === true
          ? () => client.watchVectorStoreReembedding({ vectorStoreId }, { timeoutMs: 0 })
          : undefined;
      const shown = { describe, isJson: json === true, open };
      const { status, lastError } = await showState(VectorStoreReembeddingSchema, first, shown);
      if (status === Status.FAILED) throw new Failed(lastError ?? "It failed.", EXIT.failed);
    });
}

function describe(job: VectorStoreReembedding): string {
  const { phase, rows, rowsEmbedded, model, rowsPerSecond, secondsLeft, comparison, lastError } = job;
  const words = writeMessage(VectorStoreReembeddingSchema, job);
  const word = phase === undefined ? String(words["status"]) : String(words["phase"]);
  const rate = rowsPerSecond === undefined ? "" : `, ${Math.round(rowsPerSecond)} rows/s`;
  const left = secondsLeft === undefined ? "" : `, ${formatDuration(secondsLeft)} left`;
  const same = comparison === undefined ? "" : `, ${Math.round(comparison.overlap * 100)} % same results`;
  const error = lastError === undefined ? "" : `: ${lastError}`;
  return `${word}: ${rowsEmbedded} of ${rows} rows with ${model}${rate}${left}${same}${error}`;
}
