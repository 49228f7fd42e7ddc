import type { MessageShape } from "@bufbuild/protobuf";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { SearchRequestSchema, SearchService, type SearchResult } from "../../../gen/pgquiver/v1/search_pb.ts";
import { VectorStoreFileService } from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { checkLength } from "../../api/checks.ts";
import { notFound } from "../../errors.ts";
import { limits } from "../../limits.ts";
import type { Calls } from "../../wire/doors/calls.ts";
import { readMessage } from "../../wire/rest/json-reader.ts";
import type { Json } from "../json.ts";

/** Files that one request may read or delete by id. */
const IDS_MAX = 100;
/** Pages of files that `ids` reads. */
const PAGES_MAX = 100;

/** The owner of files that were uploaded without `entity_id`. */
export const PUBLIC = "public";

/** Who asks. */
export interface Reader {
  /** An agent of LibreChat; undefined: none was named. */
  entityId: string | undefined;
}

/** Searches the files that LibreChat knows by these ids. `reader`: of these only what the reader may see. */
export async function searchFiles(
  { unary }: Calls,
  vectorStoreId: string,
  fileIds: readonly string[],
  query: string,
  count: number,
  reader?: Reader,
): Promise<SearchResult[]> {
  const named = { type: "in", key: "file_id", value: fileIds };
  const filters = reader === undefined ? named : { type: "and", filters: [named, ownedBy(reader)] };
  const request = readMessage(SearchRequestSchema, {
    vector_store_id: vectorStoreId,
    query,
    max_num_results: count,
    filters,
  }) as MessageShape<typeof SearchRequestSchema>;
  return (await unary(SearchService.method.search, request)).data;
}

/** What a reader may see: the files of the entity, those of nobody in particular, and those that say nothing of it. */
function ownedBy({ entityId }: Reader): Json {
  const owners = entityId === undefined ? [PUBLIC] : [entityId, PUBLIC];
  const owned = { type: "in", key: "user_id", value: owners };
  return { type: "or", filters: [owned, { type: "exists", key: "user_id", value: false }] };
}

/** Writes a result as rag_api does: a document of LangChain, and its cosine distance. */
export function toPair({ content, attributes, filename, score, place }: SearchResult): [Json, number] {
  const text = content.map((part) => part.text).join("\n");
  return [toDocument(text, { source: filename, ...attributes, ...pageOf(place) }), 2 * (1 - score)];
}

/** The page on which a chunk begins, which LibreChat shows with the source; nothing for files without pages. */
function pageOf(place: { page?: number | undefined } | undefined): { page?: number } {
  return place?.page === undefined ? {} : { page: place.page };
}

function toDocument(text: string, metadata: Json): Json {
  return { id: null, metadata, page_content: text, type: "Document" };
}

/** A file of the store. */
interface StoredFile {
  id: string;
  attributes: Json;
}

/**
 * Finds the files that LibreChat knows by these ids, of each all that were uploaded. `lacks`: one of the ids has none.
 * No RPC finds files by attributes, so a search finds a chunk of each: its text does not matter, and is always the
 * same, so that it is embedded once.
 */
async function findFiles(
  calls: Calls,
  vectorStoreId: string,
  fileIds: readonly string[],
): Promise<{ files: StoredFile[]; lacks: boolean }> {
  checkLength("ids", fileIds.length, IDS_MAX);
  const found = new Map<string, StoredFile>();
  let lacks = false;
  for (const fileId of new Set(fileIds)) {
    const chunks = await searchFiles(calls, vectorStoreId, [fileId], "file", limits.search_results_max);
    lacks ||= chunks.length === 0;
    for (const { fileId: id, attributes = {} } of chunks) found.set(id, { id, attributes });
  }
  return { files: [...found.values()], lacks };
}

/** A chunk of a file. */
export interface StoredDocument {
  page_content: string;
  metadata: Json & { page?: number };
}

/** Reads the chunks of files as documents, in the order of their texts. Throws NOT_FOUND with `missing` when an id has none. */
export async function readDocuments(
  calls: Calls,
  vectorStoreId: string,
  fileIds: readonly string[],
  missing = "One or more IDs not found",
): Promise<StoredDocument[]> {
  const method = VectorStoreFileService.method.getVectorStoreFileContent;
  const { files, lacks } = await findFiles(calls, vectorStoreId, fileIds);
  if (lacks) throw notFound(missing);
  const documents: StoredDocument[] = [];
  for (const { id, attributes } of files) {
    const { data, places } = await calls.unary(method, { vectorStoreId, fileId: id });
    for (const [index, { text }] of data.entries())
      documents.push({ page_content: text, metadata: { ...attributes, ...pageOf(places[index]) } });
  }
  return documents;
}

/**
 * Deletes files, all that LibreChat knows by these ids, and those of an id beyond the chunks of one search too. Then throws
 * NOT_FOUND when one of the ids had none.
 */
export async function deleteFiles(
  calls: Calls,
  vectorStoreId: string,
  fileIds: readonly string[],
): Promise<void> {
  const { files: found, lacks } = await findFiles(calls, vectorStoreId, fileIds);
  let files = found;
  while (files.length > 0) {
    for (const { id } of files) await calls.unary(FileService.method.deleteFile, { fileId: id });
    const rest = await searchFiles(calls, vectorStoreId, fileIds, "file", limits.search_results_max);
    files = [...new Set(rest.map(({ fileId }) => fileId))].map((id) => ({ id, attributes: {} }));
  }
  if (lacks) throw notFound("One or more IDs not found");
}

/** Lists the ids by which LibreChat knows the store's files, of the newest 10,000. */
export async function listIds({ unary }: Calls, vectorStoreId: string): Promise<string[]> {
  const ids = new Set<string>();
  let after: string | undefined;
  for (let page = 0; page < PAGES_MAX; page++) {
    const request = { vectorStoreId, limit: limits.page_limit_max, ...(after !== undefined && { after }) };
    const reply = await unary(VectorStoreFileService.method.listVectorStoreFiles, request);
    for (const { attributes } of reply.data) {
      const id = attributes?.["file_id"];
      if (typeof id === "string") ids.add(id);
    }
    if (!reply.hasMore) break;
    after = reply.lastId;
  }
  return [...ids];
}
