import { EmbeddingService } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import type { StoreSearchResult } from "../../../gen/pgquiver/v1/search_pb.ts";
import { VectorStoreFileService } from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { invalidArgument } from "../../errors.ts";
import type { Calls } from "../../wire/doors/calls.ts";
import { joinChunks } from "../../api/texts/joined-chunks.ts";

type Json = Record<string, unknown>;

/** Where the text that `search` returns stands in its file, as far as it is known. */
export interface PassagePlace {
  /** Number of the page, slide or sheet, from 1. */
  page?: number;
  /** The headings above it, the outermost first. */
  headings?: string[];
}

/** What `search` and `fetch` return of a document. */
export interface FoundDocument {
  id: string;
  title: string;
  url: string;
  text: string;
}

/** A whole document, as `fetch` returns it. */
export interface WholeDocument extends FoundDocument {
  metadata: Json;
}

/** Maximum number of characters of a document that a tool returns at once; about 50,000 tokens. */
export const TEXT_CHARS_MAX = 200_000;

/** Maximum number of characters of a title that is made of a text. */
const TITLE_CHARS_MAX = 80;

/** The id of a document: the path of its file or its embedding below `/v1/vector_stores/`. */
const ID = /^([^/]+)\/(files|embeddings)\/([^/]+)$/;

/**
 * Describes the documents of results, each once, with the text of its best result. `base` is the service's URL, for
 * documents without a `url` among their attributes.
 */
export function describeResults(
  results: readonly StoreSearchResult[],
  base: string,
): (FoundDocument & PassagePlace)[] {
  const found = new Map<string, FoundDocument & PassagePlace>();
  for (const result of results) {
    const isChunk = result.fileId !== result.id;
    const id = `${result.vectorStoreId}/${isChunk ? "files" : "embeddings"}/${result.fileId}`;
    if (found.has(id)) continue;
    const text = result.content.map((part) => part.text).join("\n");
    const attributes = (result.attributes ?? {}) as Json;
    const name = isChunk ? result.filename : attributes["filename"];
    const title = titleOf(attributes, name, text);
    found.set(id, { id, title, url: urlOf(attributes, base, id), text, ...placeOf(result) });
  }
  return [...found.values()];
}

function placeOf({ place }: StoreSearchResult): PassagePlace {
  const { page, headings = [] } = place ?? {};
  return { ...(page !== undefined && { page }), ...(headings.length > 0 && { headings }) };
}

/** Reads the document of an id that `search` returned. */
export async function fetchDocument(calls: Calls, id: string, base: string): Promise<WholeDocument> {
  const [, vectorStoreId, kind, name] = ID.exec(id) ?? [];
  if (vectorStoreId === undefined || name === undefined)
    throw invalidArgument("id", "Invalid 'id': expected an id that 'search' returned.");
  if (kind === "files") return fetchFile(calls, vectorStoreId, name, base);
  const request = { vectorStoreId, embeddingId: name };
  const { content, metadata = {} } = await calls.unary(EmbeddingService.method.getEmbedding, request);
  const title = titleOf(metadata, metadata["filename"], content);
  return { id, title, ...cut(content, metadata), url: urlOf(metadata, base, id) };
}

async function fetchFile(
  calls: Calls,
  vectorStoreId: string,
  fileId: string,
  base: string,
): Promise<WholeDocument> {
  const { unary } = calls;
  const request = { vectorStoreId, fileId };
  const { attributes = {} } = await unary(VectorStoreFileService.method.getVectorStoreFile, request);
  const { filename } = await unary(FileService.method.getFile, { fileId });
  const text = await readFileText(calls, vectorStoreId, fileId);
  const id = `${vectorStoreId}/files/${fileId}`;
  const title = titleOf(attributes, filename, text);
  return { id, title, ...cut(text, { ...attributes, filename }), url: urlOf(attributes, base, id) };
}

/** Reads the text of a file in a store. */
export async function readFileText({ unary }: Calls, vectorStoreId: string, fileId: string): Promise<string> {
  const method = VectorStoreFileService.method.getVectorStoreFileContent;
  const { data } = await unary(method, { vectorStoreId, fileId });
  return joinChunks(data.map(({ text }) => text));
}

function cut(text: string, metadata: Json): { text: string; metadata: Json } {
  if (text.length <= TEXT_CHARS_MAX) return { text, metadata };
  const note = { truncated: true, characters: text.length };
  return { text: text.slice(0, TEXT_CHARS_MAX), metadata: { ...metadata, ...note } };
}

function titleOf(attributes: Json, name: unknown, text: string): string {
  const { title } = attributes;
  if (typeof title === "string" && title !== "") return title;
  if (typeof name === "string" && name !== "") return name;
  return text.trim().split("\n", 1)[0]?.slice(0, TITLE_CHARS_MAX) ?? "";
}

function urlOf({ url }: Json, base: string, id: string): string {
  if (typeof url === "string" && /^https?:\/\//i.test(url)) return url;
  const path = `${base}/v1/vector_stores/${id.split("/").map(encodeURIComponent).join("/")}`;
  return id.includes("/files/") ? `${path}/content` : path;
}
