import { setTimeout as delay } from "node:timers/promises";
import type { Command } from "commander";
import { IndexSchema, IndexService, IndexState, type Index } from "../../../gen/pgquiver/v1/indexes_pb.ts";
import { writeMessage } from "../../wire/rest/json-writer.ts";
import { Connection, type GlobalOptions } from "../connection.ts";
import { EXIT, Failed } from "../exit.ts";
import { formatBytes, printJson, Progress } from "../output.ts";

/** Interval of asking for the state. */
const POLL_MS = 1_000;

/** States in which nothing is done and nothing is waited for. */
const RESTING: readonly IndexState[] = [IndexState.NONE, IndexState.READY];

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
      let index = await client.getIndex({ vectorStoreId: store });
      const print = () =>
        json === true ? printJson(IndexSchema, index) : process.stdout.write(`${describe(index)}\n`);
      if (watch !== true) return void print();
      const progress = new Progress(() => describe(index));
      while (!RESTING.includes(index.state) && index.lastError === undefined) {
        if (json === true) print();
        await delay(POLL_MS);
        index = await client.getIndex({ vectorStoreId: store });
      }
      progress.end();
      print();
      if (index.lastError !== undefined) throw new Failed(index.lastError, EXIT.failed);
    });
}

function describe(index: Index): string {
  const { progress, rows, indexBytes, lastError, blockedBy } = index;
  const word = String(writeMessage(IndexSchema, index)["state"]);
  const share = progress === undefined ? "" : ` ${Math.floor(progress * 100)} %`;
  const waits = blockedBy.length > 0 ? `, waits for ${blockedBy.map(({ name }) => name).join(", ")}` : "";
  const failed = lastError === undefined ? "" : `, failed: ${lastError}`;
  return `${word}${share}: ${rows} rows, index ${formatBytes(Number(indexBytes))}${waits}${failed}`;
}
