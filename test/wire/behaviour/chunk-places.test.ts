import { toFile, type OpenAI } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { promoteStore } from "../../../src/indexes/worker.ts";
import type { Json, Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { makePdf } from "../../support/stores/documents.ts";
import { clientOf } from "../../support/servers/file-service.ts";
import { until, uploadText } from "../../support/stores/files.ts";
import { send } from "../../support/clients/http.ts";
import { TEST_INDEXES } from "../../support/stores/index-store.ts";
import { startServer } from "../../support/servers/server.ts";

const database = await openTestDatabase();
const server = await startServer({ database });
const openai = clientOf(server);
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
});

const GUIDE = `# Returns

Send it back within thirty days.

## Refunds

The money comes back in a week. 🚀`;

/** Each paragraph is a chunk. */
const byParagraph = {
  type: "characters",
  characters: { max_chunk_size_characters: 50, chunk_overlap_characters: 0 },
};

async function attach(client: OpenAI, storeId: string, fileId: string): Promise<void> {
  const body = { file_id: fileId, chunking_strategy: byParagraph };
  await client.post(`/vector_stores/${storeId}/files`, { body });
  await client.vectorStores.files.poll(storeId, fileId);
}

/** The place of a part of the guide, which begins at a text and ends before another. */
function placeOf(headings: string[], first: string, next: string): Json {
  const [start, end] = [GUIDE.indexOf(first), next === "" ? GUIDE.length : GUIDE.indexOf(next)];
  const text = GUIDE.slice(start, end).trim();
  return {
    page: null,
    last_page: null,
    headings,
    start_index: start,
    end_index: start + Array.from(text).length,
  };
}

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let shared: string;
  let own: string;
  let fileId: string;
  beforeAll(async () => {
    fileId = await uploadText(openai, GUIDE, "guide.md");
    const create = async () => (await call("VectorStoreService/CreateVectorStore"))["id"] as string;
    [shared, own] = await Promise.all([create(), create()]);
    for (const id of [shared, own]) {
      await attach(openai, id, fileId);
      const embeddings = [{ id: "alone", content: "Ships sail." }];
      await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings });
    }
    await promoteStore(database, own, TEST_INDEXES);
  });

  const search = async (id: string, request: Json = {}): Promise<Reply[]> =>
    (await call("SearchService/Search", { vector_store_id: id, query: "money back", ...request }))["data"];
  const contents = async (id: string): Promise<Reply> =>
    call("VectorStoreFileService/GetVectorStoreFileContent", { vector_store_id: id, file_id: fileId });

  test("results of searches have the places of their chunks, in the shared table and in an own one", async () => {
    for (const id of [shared, own]) {
      const searches: Json[] = [
        {},
        { exact: true },
        { group_by: "file", group_size: 10 },
        { diversity: 0.5 },
        { limit: 100, include: ["metadata"] },
        { ranking_options: { hybrid_search: { embedding_weight: 1, text_weight: 1 } } },
      ];
      for (const request of searches) {
        const hits = await search(id, request);
        expect(hits.find((hit) => hit.id === `${fileId}_0`)?.place).toMatchObject({
          headings: ["Returns"],
          start_index: 0,
        });
        expect(hits.find((hit) => hit.id === "alone")?.place ?? null).toBeNull();
      }
      const batch = await call("SearchService/BatchSearch", {
        vector_store_id: id,
        searches: [{ query: "money back" }],
      });
      expect(batch["data"][0].data[0].place).toMatchObject({ page: null });
    }
    const several = await call("SearchService/SearchVectorStores", {
      vector_store_ids: [shared, own],
      query: "money back",
    });
    expect(several["data"][0].place).toMatchObject({ headings: ["Returns", "Refunds"] });
  });

  test("embeddings that are read, listed and queried have them, and so has the text of a file", async () => {
    const places = [
      placeOf(["Returns"], "# Returns", "## Refunds"),
      placeOf(["Returns", "Refunds"], "## Refunds", ""),
    ];
    for (const id of [shared, own]) {
      const { data, places: found } = await contents(id);
      expect(found).toEqual(places);
      const text = Array.from(GUIDE);
      for (const [index, { start_index, end_index }] of found.entries())
        expect(text.slice(start_index, end_index).join("")).toBe(data[index].text);
      const one = { vector_store_id: id, embedding_id: `${fileId}_1` };
      expect((await call("EmbeddingService/GetEmbedding", one))["place"]).toEqual(places[1]);
      const filters = { type: "text", value: "money" };
      for (const include of [[], ["embedding"]]) {
        const queried = await call("EmbeddingService/QueryEmbeddings", {
          vector_store_id: id,
          filters,
          include,
        });
        expect(queried["data"]).toMatchObject([{ id: `${fileId}_1`, place: places[1] }]);
      }
      const listed = await call("EmbeddingService/ListEmbeddings", { vector_store_id: id });
      expect(listed["data"].map(({ place }: Reply) => place).filter(Boolean)).toHaveLength(2);
      const direct = { vector_store_id: id, embedding_id: "alone" };
      expect((await call("EmbeddingService/GetEmbedding", direct))["place"]).toBeNull();
    }
  });
});

test("pages of a PDF are cited, and OpenAI's form of a reply has no places", async () => {
  const pdf = await makePdf([
    "The heron is grey and large, and fishes.",
    "Owls hunt at night, all alone in woods.",
  ]);
  const { id: fileId } = await openai.files.create({
    file: await toFile(pdf, "birds.pdf"),
    purpose: "assistants",
  });
  const { id } = await openai.vectorStores.create({});
  await attach(openai, id, fileId);
  const search = async (body: Json) => {
    const { text } = await send(`${server.url}/v1/vector_stores/${id}/search`, "POST", JSON.stringify(body));
    return (JSON.parse(text) as Reply)["data"];
  };
  const [hit] = await search({ query: "owls hunt at night" });
  expect(hit).toMatchObject({ filename: "birds.pdf", place: { page: 2, last_page: 2, headings: [] } });
  const [strict] = await search({ query: "owls hunt at night", response_format: "openai" });
  expect(strict).not.toHaveProperty("place");
  expect(strict.content).toEqual([{ type: "text", text: expect.stringContaining("Owls") }]);
});

test("chunks of large files, which are staged, have their places", async () => {
  const text = Array.from({ length: 700 }, (_, n) => `# Part ${n} of a long text of many parts\n\n`).join("");
  const fileId = await uploadText(openai, text, "parts.md");
  const { id } = await openai.vectorStores.create({});
  await attach(openai, id, fileId);
  const { rows } = await database.pool.query<{ chunks: number; last: Json }>(
    `select count(*) filter (where (chunk_place ->> 'end')::int - (chunk_place ->> 'start')::int = char_length(content)
       and substr($2, (chunk_place ->> 'start')::int + 1, char_length(content)) = content)::int as chunks,
       (array_agg(chunk_place order by chunk_index desc))[1] as last
     from embeddings where file_id = $1`,
    [fileId, text],
  );
  expect(rows).toMatchObject([
    { chunks: 700, last: { headings: ["Part 699 of a long text of many parts"] } },
  ]);
});

test("a chunk that keeps its vector in a new version of the file has its new place", async () => {
  const { id } = await openai.vectorStores.create({});
  const old = await uploadText(openai, GUIDE, "guide.md");
  await attach(openai, id, old);
  const vectorOf = async (chunk: string) =>
    (await database.pool.query("select embedding::text from embeddings where id = $1", [chunk])).rows[0]
      ?.embedding as string;
  const vector = await vectorOf(`${old}_1`);
  const before = "# Everything about the shop, its goods and us\n\n";
  const next = await uploadText(openai, `${before}${GUIDE}`, "guide.md");
  await openai.post(`/vector_stores/${id}/files/${old}/replace`, { body: { new_file_id: next } });
  const file = await until(async () => {
    const found = (await openai.vectorStores.files.retrieve(next, {
      vector_store_id: id,
    })) as unknown as Json;
    return found["status"] === "in_progress" ? undefined : found;
  });
  expect(file).toMatchObject({ status: "completed" });
  const { text } = await send(`${server.url}/v1/vector_stores/${id}/files/${next}/content`, "GET");
  const { data, places } = JSON.parse(text) as Reply;
  expect(places.map(({ headings }: Reply) => headings.length)).toEqual([1, 1, 2]);
  expect(data[2].text).toContain("The money comes back");
  expect(places[2].start_index).toBe(before.length + GUIDE.indexOf("## Refunds"));
  expect(await vectorOf(`${next}_2`)).toBe(vector);
});

test("chunks without a place have none: those of versions before, and those whose text was replaced", async () => {
  const { id } = await openai.vectorStores.create({});
  const fileId = await uploadText(openai, GUIDE, "guide.md");
  await attach(openai, id, fileId);
  const placesOf = async () => {
    const { text } = await send(`${server.url}/v1/vector_stores/${id}/files/${fileId}/content`, "GET");
    return (JSON.parse(text) as Reply)["places"];
  };
  const replaced = { id: `${fileId}_0`, content: "A text that stands nowhere." };
  await send(`${server.url}/v1/vector_stores/${id}/embeddings?mode=upsert`, "POST", JSON.stringify(replaced));
  const places = await placesOf();
  expect(places).toMatchObject([{ end_index: 0 }, { headings: ["Returns", "Refunds"] }]);
  await database.pool.query("update embeddings set chunk_place = null where file_id = $1", [fileId]);
  expect(await placesOf()).toEqual([]);
});

test("places that would make the text of a file a much larger reply are left out", async () => {
  const { id } = await openai.vectorStores.create({});
  const fileId = await uploadText(openai, GUIDE, "guide.md");
  await attach(openai, id, fileId);
  await database.pool.query(
    "update embeddings set chunk_place = chunk_place || jsonb_build_object('headings', jsonb_build_array(repeat('x', 17000000))) where file_id = $1",
    [fileId],
  );
  const { text } = await send(`${server.url}/v1/vector_stores/${id}/files/${fileId}/content`, "GET");
  expect(JSON.parse(text)).toMatchObject({ data: [{ type: "text" }, { type: "text" }], places: [] });
});
