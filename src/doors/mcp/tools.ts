import type { MessageShape } from "@bufbuild/protobuf";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { Scope } from "../../../gen/pgquiver/v1/options_pb.ts";
import {
  SearchRequestSchema,
  SearchResponseSchema,
  SearchService,
} from "../../../gen/pgquiver/v1/search_pb.ts";
import {
  VectorStoreFileSchema,
  VectorStoreFileService,
} from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import {
  VectorStoreSchema,
  VectorStoreService,
  VectorStoreStatus,
} from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { checkLength } from "../../api/checks.ts";
import { limits } from "../../limits.ts";
import type { Calls } from "../../wire/doors/calls.ts";
import { readMessage } from "../../wire/rest/json-reader.ts";
import { writeMessage } from "../../wire/rest/json-writer.ts";
import type { Arguments } from "./arguments.ts";
import { describeResults, fetchDocument, readFileText, TEXT_CHARS_MAX } from "./documents.ts";

type Json = Record<string, unknown>;

/** What a tool works with. */
export interface ToolContext {
  calls: Calls;
  /** The stores that `search` covers; undefined: those that the caller may search. */
  storeIds: readonly string[] | undefined;
  /** The URL of the service, as the client knows it. */
  base: string;
}

/** A tool of the MCP server. Every tool only reads. */
export interface Tool {
  description: string;
  /** JSON Schema of the arguments. */
  properties: Record<string, Json>;
  required: readonly string[];
  run: (sent: Arguments, context: ToolContext) => Promise<Json>;
}

/** Stores that one `search` covers. */
const STORES_MAX = 16;
/** Results of one `search`. */
const RESULTS_MAX = 10;
/** Stores or files in a page, each file with its name. */
const PAGE_MAX = 50;
const PAGE_DEFAULT = 20;

const text = (description: string) => ({ type: "string", description });
const integer = (description: string) => ({ type: "integer", description });
const page = {
  limit: integer(`How many to return, 1 to ${PAGE_MAX}; default ${PAGE_DEFAULT}.`),
  after: text("The last_id of the page before."),
};

/** The tools by their names. ChatGPT's connectors and deep research need `search` and `fetch` with exactly these arguments. */
export const tools: ReadonlyMap<string, Tool> = new Map<string, Tool>([
  [
    "search",
    {
      description: `Searches the vector stores for documents about a query, and returns the best ${RESULTS_MAX} with their ids, titles, URLs, the passage that matches and, where it is known, its page and the headings above it. Covers the stores that the server's URL names, else the ${STORES_MAX} most recently used stores that the key may search. Call fetch with an id for the whole document.`,
      properties: { query: text("What to look for, in natural language.") },
      required: ["query"],
      async run(sent, { calls, storeIds, base }) {
        const stores = await chooseStores(calls, storeIds);
        if (stores.length === 0) return { results: [] };
        const { data, errors } = await calls.unary(SearchService.method.searchVectorStores, {
          vectorStoreIds: [...stores],
          query: [sent.text("query")],
          maxNumResults: RESULTS_MAX,
        });
        const failed = errors.map(({ vectorStoreId, message }) => ({ store_id: vectorStoreId, message }));
        return { results: describeResults(data, base), ...(failed.length > 0 && { errors: failed }) };
      },
    },
  ],
  [
    "fetch",
    {
      description: `Reads a whole document by an id that search returned: its title, text (at most ${TEXT_CHARS_MAX} characters), URL and metadata.`,
      properties: { id: text("An id that search returned.") },
      required: ["id"],
      run: async (sent, { calls, base }) => ({ ...(await fetchDocument(calls, sent.text("id"), base)) }),
    },
  ],
  [
    "list_stores",
    {
      description: "Lists the vector stores, newest first, page by page.",
      properties: page,
      required: [],
      async run(sent, { calls }) {
        const reply = await calls.unary(VectorStoreService.method.listVectorStores, readPage(sent));
        const stores = reply.data.map((store) => writeMessage(VectorStoreSchema, store));
        return { stores, last_id: reply.lastId ?? null, has_more: reply.hasMore };
      },
    },
  ],
  [
    "search_store",
    {
      description: "Searches one vector store, with filters on the attributes of its documents.",
      properties: {
        store_id: text("The id of the store."),
        query: text("What to look for, in natural language."),
        filters: {
          type: "object",
          description:
            'A condition on attributes: {"type":"eq","key":"lang","value":"en"} with eq, ne, gt, gte, lt, lte, in or nin, or {"type":"and","filters":[...]} with and or or.',
        },
        limit: integer("How many results to return, 1 to 50; default 10."),
      },
      required: ["store_id", "query"],
      async run(sent, { calls }) {
        const request = readMessage(SearchRequestSchema, {
          vector_store_id: sent.text("store_id"),
          query: sent.text("query"),
          filters: sent.optional("filters") ?? null,
          max_num_results: sent.integer("limit", 1, limits.search_results_max) ?? null,
        }) as MessageShape<typeof SearchRequestSchema>;
        const reply = await calls.unary(SearchService.method.search, request);
        return { results: writeMessage(SearchResponseSchema, reply)["data"] };
      },
    },
  ],
  [
    "list_files",
    {
      description: "Lists the files in a vector store, newest first, page by page.",
      properties: { store_id: text("The id of the store."), ...page },
      required: ["store_id"],
      run: listFiles,
    },
  ],
  [
    "get_file_text",
    {
      description: "Reads the text of a file in a vector store, or a part of it.",
      properties: {
        store_id: text("The id of the store."),
        file_id: text("The id of the file."),
        offset: integer("Index of the first character; default 0."),
        limit: integer(`How many characters to return, 1 to ${TEXT_CHARS_MAX}, which is the default.`),
      },
      required: ["store_id", "file_id"],
      async run(sent, { calls }) {
        const offset = sent.integer("offset", 0, Number.MAX_SAFE_INTEGER) ?? 0;
        const limit = sent.integer("limit", 1, TEXT_CHARS_MAX) ?? TEXT_CHARS_MAX;
        const whole = await readFileText(calls, sent.text("store_id"), sent.text("file_id"));
        const end = offset + limit;
        return { text: whole.slice(offset, end), characters: whole.length, has_more: end < whole.length };
      },
    },
  ],
]);

async function listFiles(sent: Arguments, { calls }: ToolContext): Promise<Json> {
  const request = { vectorStoreId: sent.text("store_id"), ...readPage(sent) };
  const reply = await calls.unary(VectorStoreFileService.method.listVectorStoreFiles, request);
  const files: Json[] = [];
  for (const file of reply.data) {
    const { filename } = await calls.unary(FileService.method.getFile, { fileId: file.id });
    files.push({ ...writeMessage(VectorStoreFileSchema, file), filename });
  }
  return { files, last_id: reply.lastId ?? null, has_more: reply.hasMore };
}

function readPage(sent: Arguments): { limit: number; after?: string } {
  const limit = sent.integer("limit", 1, PAGE_MAX) ?? PAGE_DEFAULT;
  return sent.optional("after") === undefined ? { limit } : { limit, after: sent.text("after") };
}

/**
 * Returns the stores to search: those that are named, at most 16, else the 16 most recently used of the newest 100 that the
 * caller may search. A key without the right to list stores searches the first 16 stores that it is restricted to.
 */
async function chooseStores(calls: Calls, named: readonly string[] | undefined): Promise<readonly string[]> {
  const { caller, unary } = calls;
  if (named !== undefined) {
    checkLength("stores", named.length, STORES_MAX);
    return named;
  }
  if (!caller.scopes.has(Scope.STORES_READ) && caller.storeIds !== undefined)
    return [...caller.storeIds].slice(0, STORES_MAX);
  const { data } = await unary(VectorStoreService.method.listVectorStores, { limit: limits.page_limit_max });
  return data
    .filter(({ status }) => status !== VectorStoreStatus.EXPIRED)
    .toSorted((a, b) => Number((b.lastActiveAt ?? b.createdAt) - (a.lastActiveAt ?? a.createdAt)))
    .slice(0, STORES_MAX)
    .map(({ id }) => id);
}
