import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { AccessService } from "../../gen/pgquiver/v1/access_pb.ts";
import { DiagnosticsService } from "../../gen/pgquiver/v1/diagnostics_pb.ts";
import { EmbeddingService } from "../../gen/pgquiver/v1/embeddings_pb.ts";
import { FileService } from "../../gen/pgquiver/v1/files_pb.ts";
import { IndexService } from "../../gen/pgquiver/v1/indexes_pb.ts";
import { IngestService } from "../../gen/pgquiver/v1/ingest_pb.ts";
import { ModelService } from "../../gen/pgquiver/v1/models_pb.ts";
import { SearchService } from "../../gen/pgquiver/v1/search_pb.ts";
import { VectorStoreFileService } from "../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { VectorStoreService } from "../../gen/pgquiver/v1/vector_stores_pb.ts";
import { needKey, sessionHeaders } from "./session.ts";

/** The service's URL: that of the page, so that a proxy may serve both under a prefix. */
export const BASE = new URL(".", document.baseURI).href;

const identify: Interceptor = (next) => async (request) => {
  for (const [name, value] of Object.entries(sessionHeaders())) request.header.set(name, value);
  try {
    return await next(request);
  } catch (error) {
    const failure = ConnectError.from(error);
    if (failure.code === Code.Unauthenticated) needKey(failure.rawMessage);
    throw failure;
  }
};

const transport = createConnectTransport({
  baseUrl: BASE.replace(/\/$/, ""),
  useBinaryFormat: true,
  interceptors: [identify],
});

/** Stores. */
export const stores = createClient(VectorStoreService, transport);
/** Embeddings of a store. */
export const embeddings = createClient(EmbeddingService, transport);
/** Searches. */
export const searches = createClient(SearchService, transport);
/** Indexes of stores. */
export const indexes = createClient(IndexService, transport);
/** Uploaded files. */
export const files = createClient(FileService, transport);
/** Attached files. */
export const storeFiles = createClient(VectorStoreFileService, transport);
/** Bulk ingests. */
export const ingests = createClient(IngestService, transport);
/** Projects, and who the caller is. */
export const access = createClient(AccessService, transport);
/** The embedding model. */
export const models = createClient(ModelService, transport);
/** The doctor. */
export const diagnostics = createClient(DiagnosticsService, transport);

/** What a call answers, or undefined where it is NOT_FOUND. */
export async function ifFound<T>(call: Promise<T>): Promise<T | undefined> {
  return call.catch((error: unknown) => {
    if (ConnectError.from(error).code === Code.NotFound) return undefined;
    throw error;
  });
}

/** The message of an error, for people. */
export function messageOf(error: unknown): string {
  return error instanceof ConnectError
    ? error.rawMessage
    : error instanceof Error
      ? error.message
      : String(error);
}

/** Reads a path of the service that is no RPC. Throws for another status than 2xx. */
export async function read(path: string, signal: AbortSignal): Promise<Response> {
  const reply = await fetch(BASE + path, { headers: sessionHeaders(), signal });
  if (reply.ok) return reply;
  const message = readMessage(await reply.text()) ?? `${reply.status} ${reply.statusText}`;
  if (reply.status === 401) needKey(message);
  throw new Error(message);
}

/** The message of an error in OpenAI's envelope. */
export function readMessage(text: string): string | undefined {
  try {
    return (JSON.parse(text) as { error?: { message?: string } }).error?.message;
  } catch {
    return undefined;
  }
}
