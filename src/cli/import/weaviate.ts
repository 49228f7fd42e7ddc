import { JsonApi } from "./http.ts";
import { PAGE_ROWS, pickVector, type Source } from "./source.ts";

/** What is read of Weaviate. */
export interface WeaviateOptions {
  from: string;
  sourceKey: string | undefined;
  collection: string;
  tenant: string | undefined;
  /** The name of the vector, of a collection with several. */
  vector: string | undefined;
}

interface Found {
  id: string;
  properties: Record<string, unknown>;
  vector?: number[];
  vectors?: Record<string, number[]>;
  creationTimeUnix?: number;
}

/** Reads a collection of Weaviate in the order of its ids, by its REST API. */
export async function openWeaviate(options: WeaviateOptions): Promise<Source> {
  const { from, sourceKey, collection, tenant } = options;
  const api = new JsonApi(from, {
    authorization: sourceKey === undefined ? undefined : `Bearer ${sourceKey}`,
  });
  const scope = tenant === undefined ? "" : `(tenant: ${JSON.stringify(tenant)})`;
  const { data, errors } = await api.call<{
    data?: { Aggregate?: Record<string, { meta: { count: number } }[] | null> };
    errors?: { message: string }[];
  }>("/v1/graphql", { query: `{ Aggregate { ${collection}${scope} { meta { count } } } }` });
  if (errors?.[0] !== undefined) throw new Error(`Weaviate: ${errors[0].message}`);
  const [count] = data?.Aggregate?.[collection] ?? [];
  return { rows: readRows(api, options), total: count?.meta.count };
}

async function* readRows(
  api: JsonApi,
  { collection, tenant, vector: name }: WeaviateOptions,
): Source["rows"] {
  let after = "";
  for (;;) {
    const query = new URLSearchParams({
      class: collection,
      limit: String(PAGE_ROWS),
      include: "vector",
      after,
    });
    if (tenant !== undefined) query.set("tenant", tenant);
    const { objects } = await api.call<{ objects: Found[] }>(`/v1/objects?${query.toString()}`);
    for (const { id, properties, vector, vectors, creationTimeUnix } of objects)
      yield {
        created_at: creationTimeUnix === undefined ? undefined : Math.floor(creationTimeUnix / 1000),
        ...properties,
        id,
        embedding: pickVector(vector?.length ? vector : vectors, name),
      };
    const last = objects.at(-1);
    if (last === undefined) return;
    after = last.id;
  }
}
