import { JsonApi } from "./http.ts";
import { PAGE_ROWS, pickVector, type Source } from "./source.ts";

/** What is read of Qdrant. */
export interface QdrantOptions {
  from: string;
  sourceKey: string | undefined;
  collection: string;
  /** The name of the vector, of a collection with several. */
  vector: string | undefined;
}

interface Point {
  id: string | number;
  payload: Record<string, unknown> | null;
  vector: unknown;
}

/** Reads a collection of Qdrant in the order of its ids, by its REST API. */
export async function openQdrant({ from, sourceKey, collection, vector }: QdrantOptions): Promise<Source> {
  const api = new JsonApi(from, { "api-key": sourceKey });
  const path = `/collections/${encodeURIComponent(collection)}/points`;
  const { result } = await api.call<{ result: { count: number } }>(`${path}/count`, { exact: true });
  return { rows: readRows(api, path, vector), total: result.count };
}

async function* readRows(api: JsonApi, path: string, vectorName: string | undefined): Source["rows"] {
  let offset: string | number | undefined;
  do {
    const { result } = await api.call<{
      result: { points: Point[]; next_page_offset?: string | number | null };
    }>(`${path}/scroll`, {
      limit: PAGE_ROWS,
      offset,
      with_payload: true,
      with_vector: vectorName === undefined ? true : [vectorName],
    });
    for (const { id, payload, vector } of result.points)
      yield { ...payload, id, embedding: pickVector(vector, vectorName) };
    offset = result.next_page_offset ?? undefined;
  } while (offset !== undefined);
}
