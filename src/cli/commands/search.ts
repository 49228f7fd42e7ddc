import { styleText } from "node:util";
import { InvalidArgumentError, type Command } from "commander";
import {
  SearchRequestSchema,
  SearchResponseSchema,
  SearchService,
  type SearchRequest,
  type SearchResult,
} from "../../../gen/pgquiver/v1/search_pb.ts";
import { readMessage } from "../../wire/rest/json-reader.ts";
import { Connection, type GlobalOptions } from "../connection.ts";
import { printJson } from "../output.ts";
import { readCount } from "./stores.ts";

/** Characters that are shown of a result's text. */
const TEXT_CHARS = 300;

interface SearchOptions {
  limit: number;
  filters?: object;
  hybrid?: boolean;
  exact?: boolean;
}

/** Adds the command that searches a store. */
export function addSearch(program: Command): void {
  program
    .command("search <store> <query...>")
    .description("search a store for a text")
    .option("-n, --limit <n>", "most results, 1 to 1,000", readCount, 10)
    .option("--filters <json>", 'a condition: \'{"type":"eq","key":"lang","value":"en"}\'', readObject)
    .option("--hybrid", "rank by words as well, with equal weights")
    .option("--exact", "compare every row, also where the store has an index")
    .action(async (store: string, words: string[], { limit, filters, hybrid, exact }: SearchOptions) => {
      const options = program.opts<GlobalOptions>();
      // REST's reader knows filters as OpenAI writes them.
      const request = readMessage(SearchRequestSchema, {
        vector_store_id: store,
        query: words.join(" "),
        limit,
        filters: filters ?? null,
        exact: exact ?? null,
        ranking_options: hybrid === true ? { hybrid_search: { embedding_weight: 1, text_weight: 1 } } : null,
      }) as SearchRequest;
      const reply = await new Connection(options).client(SearchService).search(request);
      if (options.json === true) return printJson(SearchResponseSchema, reply);
      for (const result of reply.data) process.stdout.write(`${describe(result)}\n\n`);
      if (reply.data.length === 0) process.stderr.write("Nothing was found.\n");
    });
}

function describe({ score, filename, fileId, content }: SearchResult): string {
  const text = content
    .map((part) => part.text)
    .join(" ")
    .replaceAll(/\s+/g, " ");
  const shown = text.length > TEXT_CHARS ? `${text.slice(0, TEXT_CHARS)}…` : text;
  return `${styleText("bold", score.toFixed(3))}  ${filename} (${fileId})\n${shown}`;
}

function readObject(text: string): object {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // Said below.
  }
  throw new InvalidArgumentError("It must be a JSON object.");
}
