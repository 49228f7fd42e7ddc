import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { rename } from "node:fs/promises";
import type { Command } from "commander";
import { ExportedEmbeddingSchema, IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { writeMessage } from "../../wire/rest/json-writer.ts";
import { Connection, type GlobalOptions } from "../connection.ts";
import { Progress } from "../output.ts";

/** Adds the command that writes all rows of a store as NDJSON, in the format that `load` reads. */
export function addExport(program: Command): void {
  program
    .command("export <store>")
    .description("write all rows of a store as NDJSON, which `load` reads")
    .option("-o, --output <file>", "the file to write; default: stdout")
    .option("--no-embeddings", "leave the vectors out")
    .action(async (store: string, { output, embeddings }: { output?: string; embeddings: boolean }) => {
      const client = new Connection(program.opts<GlobalOptions>()).client(IngestService);
      // Complete or not there: a file that was cut off must not look like a whole one.
      const partial = output === undefined ? undefined : `${output}.partial`;
      const file = partial === undefined ? process.stdout : createWriteStream(partial);
      let rows = 0;
      const progress = output === undefined ? undefined : new Progress(() => `${rows} rows written`);
      try {
        for await (const row of client.exportEmbeddings({ vectorStoreId: store }, { timeoutMs: 0 })) {
          const { embedding, ...rest } = writeMessage(ExportedEmbeddingSchema, row, "base64");
          const line = `${JSON.stringify(embeddings ? { ...rest, embedding } : rest)}\n`;
          if (!file.write(line)) await once(file, "drain");
          rows++;
        }
      } finally {
        progress?.end();
      }
      if (partial === undefined || output === undefined) return;
      file.end();
      await once(file, "finish");
      await rename(partial, output);
    });
}
