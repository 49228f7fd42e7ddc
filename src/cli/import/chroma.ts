import { JsonApi } from "./http.ts";
import { PAGE_ROWS, type Source } from "./source.ts";

/** What is read of Chroma. */
export interface ChromaOptions {
  from: string;
  sourceKey: string | undefined;
  collection: string;
  tenant: string;
  database: string;
}

interface Page {
  ids: string[];
  documents: (string | null)[] | null;
  embeddings: number[][] | null;
  metadatas: (Record<string, unknown> | null)[] | null;
}

/** Reads a collection of Chroma's server in the order in which its rows were added, by its REST API of version 2. */
export async function openChroma({
  from,
  sourceKey,
  collection,
  tenant,
  database,
}: ChromaOptions): Promise<Source> {
  const api = new JsonApi(from, { "x-chroma-token": sourceKey });
  const root = `/api/v2/tenants/${encodeURIComponent(tenant)}/databases/${encodeURIComponent(database)}/collections`;
  const { id } = await api.call<{ id: string }>(`${root}/${encodeURIComponent(collection)}`);
  return { rows: readRows(api, `${root}/${id}/get`), total: await api.call<number>(`${root}/${id}/count`) };
}

async function* readRows(api: JsonApi, path: string): Source["rows"] {
  const include = ["documents", "embeddings", "metadatas"];
  for (let offset = 0; ; offset += PAGE_ROWS) {
    const { ids, documents, embeddings, metadatas } = await api.call<Page>(path, {
      limit: PAGE_ROWS,
      offset,
      include,
    });
    for (const [index, id] of ids.entries())
      yield { id, content: documents?.[index], embedding: embeddings?.[index], metadata: metadatas?.[index] };
    if (ids.length < PAGE_ROWS) return;
  }
}
