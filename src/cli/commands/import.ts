import { randomUUID } from "node:crypto";
import { Option, type Command } from "commander";
import { Connection, type GlobalOptions } from "../connection.ts";
import { openChroma, type ChromaOptions } from "../import/chroma.ts";
import { importFiles, type OpenAIOptions } from "../import/openai.ts";
import { openPinecone, type PineconeOptions } from "../import/pinecone.ts";
import { openPostgres } from "../import/postgres.ts";
import { openQdrant, type QdrantOptions } from "../import/qdrant.ts";
import { toRows } from "../import/rows.ts";
import type { Source } from "../import/source.ts";
import { openWeaviate, type WeaviateOptions } from "../import/weaviate.ts";
import { splitBatches } from "../load/batches.ts";
import { MODES } from "../load/load.ts";
import { printSummary, runLoad } from "../load/run.ts";

interface RowOptions {
  mode: keyof typeof MODES;
  content?: string;
  ingestId?: string;
}

/** Adds the commands that copy what another product has into a store, each by that product's own API. */
export function addImport(program: Command): void {
  const group = program.command("import").description("copy what another product has into a store");
  const add = <Options>(
    name: string,
    description: string,
    open: (options: Options) => Source | Promise<Source>,
  ) =>
    addRowOptions(group.command(`${name} <store>`).description(description)).action(
      async (store: string, options: Options & RowOptions) => {
        const { json, ...global } = program.opts<GlobalOptions>();
        const summary = await importRows(new Connection(global), store, await open(options), options);
        printSummary(summary, json === true);
      },
    );

  add<{ from: string; query: string }>(
    "postgres",
    "the rows of a query, such as a table with pgvector",
    openPostgres,
  )
    .addOption(from("postgresql://user@host/database").env("SOURCE_DATABASE_URL"))
    .requiredOption(
      "--query <sql>",
      "its columns are id, content, embedding, metadata and others, which become metadata",
    );
  add<ChromaOptions>("chroma", "a collection of Chroma's server", openChroma)
    .addOption(from("http://host:8000"))
    .addOption(key("CHROMA_API_KEY"))
    .requiredOption("--collection <name>", "the collection")
    .option("--tenant <name>", "its tenant", "default_tenant")
    .option("--database <name>", "its database", "default_database");
  add<QdrantOptions>("qdrant", "a collection of Qdrant", openQdrant)
    .addOption(from("http://host:6333"))
    .addOption(key("QDRANT_API_KEY"))
    .requiredOption("--collection <name>", "the collection")
    .option("--vector <name>", "which vector, of a collection with several");
  add<WeaviateOptions>("weaviate", "a collection of Weaviate", openWeaviate)
    .addOption(from("http://host:8080"))
    .addOption(key("WEAVIATE_API_KEY"))
    .requiredOption("--collection <name>", "the collection")
    .option("--tenant <name>", "its tenant, of a collection with several")
    .option("--vector <name>", "which vector, of a collection with several");
  add<PineconeOptions>("pinecone", "a namespace of a serverless index of Pinecone", openPinecone)
    .addOption(from("https://the-host-of-the-index"))
    .addOption(key("PINECONE_API_KEY"))
    .option("--namespace <name>", "the namespace; default: the default one", "");
  group
    .command("openai <store>")
    .description("the files of a vector store of OpenAI, or of another pgquiver: fetched, and attached again")
    .addOption(
      new Option("--from <url>", "the API").default("https://api.openai.com/v1").env("OPENAI_BASE_URL"),
    )
    .addOption(key("OPENAI_API_KEY"))
    .requiredOption("--vector-store <id>", "the vector store there")
    .action(async (store: string, options: OpenAIOptions) => {
      const { json, ...global } = program.opts<GlobalOptions>();
      await importFiles(new Connection(global), store, options, json === true);
    });
}

function from(example: string): Option {
  return new Option("--from <url>", `where it is: ${example}`).makeOptionMandatory();
}

function key(variable: string): Option {
  return new Option("--source-key <key>", "its API key; better in the variable").env(variable);
}

function addRowOptions(command: Command): Command {
  return command
    .option(
      "--content <field>",
      "the field that has the text; default: content, text, document, chunk or page_content",
    )
    .addOption(
      new Option("--mode <mode>", "what becomes of rows whose id exists")
        .choices(Object.keys(MODES))
        .default("upsert"),
    )
    .option("--ingest-id <id>", "goes on with an import that was interrupted, and printed this id");
}

async function importRows(
  connection: Connection,
  vectorStoreId: string,
  { rows, total }: Source,
  { mode, content, ingestId = `import-${randomUUID()}` }: RowOptions,
) {
  const batches = splitBatches(toRows(rows, content), () => 0);
  const totalRows = total === undefined ? undefined : BigInt(total);
  try {
    return await runLoad(
      connection,
      batches,
      { vectorStoreId, ingestId, mode: MODES[mode], totalRows },
      { bytes: undefined, again: ` with --ingest-id ${ingestId}` },
    );
  } finally {
    // Closes what the source has open.
    await rows.return();
  }
}
