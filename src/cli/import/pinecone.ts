import { JsonApi } from "./http.ts";
import type { Source } from "./source.ts";

/** What is read of Pinecone. */
export interface PineconeOptions {
  /** The index' own host, which Pinecone's console shows. */
  from: string;
  sourceKey: string | undefined;
  /** Empty: the default one. */
  namespace: string;
}

/** The version of the API that is asked for. */
const VERSION = "2025-04";
/** The ids of a page: those of one fetch must fit into a URL. */
const PAGE_IDS = 50;

interface Vectors {
  vectors: Record<string, { id: string; values?: number[]; metadata?: Record<string, unknown> }>;
}

/** Reads a namespace of a serverless index of Pinecone in the order of its ids, by its REST API. */
export async function openPinecone({ from, sourceKey, namespace }: PineconeOptions): Promise<Source> {
  const api = new JsonApi(from, { "api-key": sourceKey, "x-pinecone-api-version": VERSION });
  const { namespaces = {} } = await api.call<{ namespaces?: Record<string, { vectorCount?: number }> }>(
    "/describe_index_stats",
    {},
  );
  return { rows: readRows(api, namespace), total: namespaces[namespace]?.vectorCount };
}

async function* readRows(api: JsonApi, namespace: string): Source["rows"] {
  let token: string | undefined;
  do {
    const query = new URLSearchParams({ namespace, limit: String(PAGE_IDS) });
    if (token !== undefined) query.set("paginationToken", token);
    const { vectors: listed = [], pagination } = await api.call<{
      vectors?: { id: string }[];
      pagination?: { next?: string };
    }>(`/vectors/list?${query.toString()}`);
    if (listed.length > 0) {
      const wanted = new URLSearchParams({ namespace });
      for (const { id } of listed) wanted.append("ids", id);
      const { vectors } = await api.call<Vectors>(`/vectors/fetch?${wanted.toString()}`);
      // A map has no order, and a vector that was deleted since is not in it.
      for (const { id } of listed) {
        const found = vectors[id];
        if (found !== undefined) yield { ...found.metadata, id, embedding: found.values };
      }
    }
    token = pagination?.next || undefined;
  } while (token !== undefined);
}
