import { createHash, randomUUID } from "node:crypto";
import { createReadStream, statSync } from "node:fs";
import { resolve } from "node:path";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { Option, type Command } from "commander";
import type { IngestSummary } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { Connection, type GlobalOptions } from "../connection.ts";
import { EXIT, Failed } from "../exit.ts";
import { splitBatches } from "../load/batches.ts";
import { countParquetRows, formatOf, FORMATS, readRows, type Format } from "../load/rows.ts";
import { MODES } from "../load/load.ts";
import { printSummary, runLoad } from "../load/run.ts";

interface LoadOptions {
  mode: keyof typeof MODES;
  format?: Format;
  ingestId?: string;
}

/** Adds the command that loads a file of rows into a store. */
export function addLoad(program: Command): void {
  program
    .command("load <store> <file>")
    .description(
      "load the rows of a file, or of stdin (-), into a store; interrupted, it goes on where it was",
    )
    .addOption(
      new Option("--mode <mode>", "what becomes of rows whose id exists")
        .choices(Object.keys(MODES))
        .default("insert"),
    )
    .addOption(
      new Option("--format <format>", "default: by the file's name, ndjson for stdin").choices(FORMATS),
    )
    .option(
      "--ingest-id <id>",
      "loads with one id load each row once; default: made of the file's path, size and time",
    )
    .addHelpText(
      "after",
      `
Rows are objects with content (or text), and optionally id, embedding (or vector), metadata and created_at. Without a vector
the service embeds the text. Other columns become metadata. NDJSON and CSV may be compressed (.gz).`,
    )
    .action(async (store: string, file: string, options: LoadOptions) => {
      const { json, ...global } = program.opts<GlobalOptions>();
      printSummary(await run(new Connection(global), store, file, options), json === true);
    });
}

async function run(
  connection: Connection,
  store: string,
  file: string,
  options: LoadOptions,
): Promise<IngestSummary> {
  const format = options.format ?? (file === "-" ? "ndjson" : formatOf(file));
  if (format === undefined)
    throw new Failed(
      `The name ${file} does not say its format: --format is one of ${FORMATS.join(", ")}.`,
      EXIT.misused,
    );
  const input = open(file);
  const rows = readRows(format === "parquet" && file !== "-" ? file : input.stream, format);
  const target = {
    vectorStoreId: store,
    ingestId: options.ingestId ?? input.makeId(store, options),
    mode: MODES[options.mode],
    totalRows: format === "parquet" && file !== "-" ? await countParquetRows(file) : undefined,
  };
  const batches = splitBatches(rows, input.bytesRead);
  try {
    return await runLoad(connection, batches, target, {
      bytes: input.bytes,
      again: file === "-" ? ` with --ingest-id ${target.ingestId} and the same input` : "",
    });
  } finally {
    input.stream.destroy();
  }
}

interface Input {
  stream: Readable;
  /** Size of the file; undefined: unknown. */
  bytes: number | undefined;
  bytesRead: () => number;
  /** An id that the same file gets again for the same load, so that a second run goes on with the first. */
  makeId: (store: string, options: LoadOptions) => string;
}

function open(file: string): Input {
  if (file === "-")
    return {
      stream: process.stdin,
      bytes: undefined,
      bytesRead: () => 0,
      makeId: () => `load-${randomUUID()}`,
    };
  const { size, mtimeMs } = statSync(file);
  const raw = createReadStream(file);
  return {
    stream: file.endsWith(".gz") ? raw.pipe(createGunzip()) : raw,
    bytes: size,
    bytesRead: () => raw.bytesRead,
    makeId: (store, { mode, format = "" }) => {
      const parts = [resolve(file), size, mtimeMs, store, mode, format];
      return `load-${createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32)}`;
    },
  };
}
