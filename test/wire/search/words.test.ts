// The words of texts in the shared table are cached for stores that are searched by words. No search may find anything else
// for that, and no words may outlive their texts.
import { afterAll, beforeEach, describe, expect, inject, test } from "vitest";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { placementLock, tryLock } from "../../../src/postgres/advisory.ts";
import { WordCache } from "../../../src/search/keywords/word-cache.ts";
import { type Json, type Reply } from "../../support/clients/client.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { TEST_INDEXES } from "../../support/stores/index-store.ts";
import { makeProject, makeTestKey } from "../../support/stores/keys.ts";
import { restOverHttp1 } from "../../support/clients/rest-client.ts";
import { startServer } from "../../support/servers/server.ts";

const database = await openTestDatabase();
const { pool, tables } = database;
const project = await makeProject(database);
const keys = { default: await makeTestKey(database, "default"), other: await makeTestKey(database, project) };
const server = await startServer({ database });
const client = restOverHttp1.connect(server);
afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await database.close();
});

const ROWS = 60;
/** A store of the same name in each project, with texts of its own, and its id in the database. */
let name: string;
let number = 0;
const storedId = (owner: keyof typeof keys) => (owner === "default" ? name : `${project}/${name}`);
const call = (rpc: string, request: Json, owner: keyof typeof keys = "default"): Promise<Reply> =>
  client.call(rpc, { vector_store_id: name, ...request }, { key: keys[owner] });
const search = async (query: string, owner: keyof typeof keys = "default"): Promise<string[]> => {
  const ranking_options = { hybrid_search: { embedding_weight: 0, text_weight: 1 } };
  const { data } = await call("SearchService/Search", { query, ranking_options }, owner);
  return data.map(({ id }: Reply) => id);
};
const countWords = async (owner: keyof typeof keys = "default"): Promise<number> => {
  const statement = "select count(*)::int from pgquiver_words where vector_store_id = $1";
  return (await pool.query<{ count: number }>(statement, [storedId(owner)])).rows[0]?.count ?? 0;
};
/** The ids of the rows that have cached words. */
const cachedIds = async (): Promise<string[]> => {
  const statement = "select embedding_id as id from pgquiver_words where vector_store_id = $1";
  return (await pool.query<{ id: string }>(statement, [name])).rows.map(({ id }) => id);
};
/** Waits until the search before has cached the words of all texts. */
const waitForWords = (owner: keyof typeof keys = "default") =>
  expect.poll(() => countWords(owner), { timeout: 20_000 }).toBe(ROWS);

beforeEach(async () => {
  name = `words-${number++}`;
  for (const owner of ["default", "other"] as const) {
    await client.call("VectorStoreService/CreateVectorStore", { id: name }, { key: keys[owner] });
    const embeddings = Array.from({ length: ROWS }, (_, n) => ({
      id: `${owner}-${n}`,
      content: `${owner === "default" ? "heron" : "badger"} ${n} under a bridge`,
      embedding: [1, n],
    }));
    await call("EmbeddingService/BatchCreateEmbeddings", { embeddings }, owner);
  }
});

/** The ids of the rows that a filter by words leaves. */
const filter = async (value: string, owner: keyof typeof keys = "default"): Promise<string[]> => {
  const request = { embedding: [1, 0], limit: 100, filters: { type: "text", value } };
  const { data } = await call("SearchService/Search", request, owner);
  return data.map(({ id }: Reply) => id);
};

describe("a store that is searched by words", () => {
  test("gets the words of its texts cached, and searches use them", async () => {
    const before = await search("heron 7");
    expect(before[0]).toBe("default-7");
    await waitForWords();
    expect(await search("heron 7")).toEqual(before);
    // Nothing else tells where words come from.
    await pool.query(
      "update pgquiver_words set text_words = to_tsvector('osprey') where vector_store_id = $1 and embedding_id = 'default-9'",
      [name],
    );
    expect(await search("osprey")).toEqual(["default-9"]);
  });

  test("gets them cached for filters by words too, and such filters use them", async () => {
    expect(await filter("heron 7")).toEqual(["default-7"]);
    await waitForWords();
    expect(await filter("heron 7")).toEqual(["default-7"]);
    expect(await filter("heron -7")).toHaveLength(ROWS - 1);
    await pool.query(
      "update pgquiver_words set text_words = to_tsvector('osprey') where vector_store_id = $1 and embedding_id = 'default-9'",
      [name],
    );
    expect(await filter("osprey")).toEqual(["default-9"]);
    const counted = await call("EmbeddingService/CountEmbeddings", {
      filters: { type: "text", value: "osprey" },
    });
    expect(Number(counted.count)).toBe(1);
    // Words of another text or of another project's store count for nothing.
    await pool.query(
      "update embeddings set content = 'a kestrel' where vector_store_id = $1 and id = 'default-9'",
      [name],
    );
    expect([await filter("osprey"), await filter("kestrel")]).toEqual([[], ["default-9"]]);
    expect(await filter("kestrel", "other")).toEqual([]);
    expect(await filter("badger 3", "other")).toEqual(["other-3"]);
  });

  test("finds what a version that does not know the cache has written", async () => {
    await search("heron");
    await waitForWords();
    await pool.query(
      "update embeddings set content = 'an osprey' where vector_store_id = $1 and id = 'default-9'",
      [name],
    );
    await pool.query("delete from embeddings where vector_store_id = $1 and id = 'default-8'", [name]);
    expect(await search("osprey")).toEqual(["default-9"]);
    expect(await search("heron 9 8")).not.toContain("default-9");
    expect(await search("heron 9 8")).not.toContain("default-8");
    // Such a version counts its changes.
    await pool.query("update vector_stores set row_changes = row_changes + 1 where id = $1", [name]);
    await new WordCache(pool, tables).note(name, "english");
    expect(await cachedIds()).not.toContain("default-8");
  });

  test("shows nothing of another project's store of the same name", async () => {
    for (const owner of ["default", "other"] as const) {
      await search("bridge", owner);
      await waitForWords(owner);
    }
    expect(await search("badger")).toEqual([]);
    expect(await search("heron", "other")).toEqual([]);
    expect((await search("badger 3", "other"))[0]).toBe("other-3");
    await call("VectorStoreService/DeleteVectorStore", {}, "other");
    expect([await countWords(), await countWords("other")]).toEqual([ROWS, 0]);
  });
});

describe("cached words are deleted with", () => {
  beforeEach(async () => {
    await search("heron");
    await waitForWords();
  });

  const changes: Record<string, () => Promise<Reply>> = {
    "a text that is deleted": () => call("EmbeddingService/DeleteEmbedding", { embedding_id: "default-5" }),
    "texts that are deleted together": () =>
      call("EmbeddingService/BatchDeleteEmbeddings", { embedding_ids: ["default-5"] }),
    "texts that a filter deletes": () =>
      call("EmbeddingService/PurgeEmbeddings", { filters: { type: "text", value: "heron 5" } }),
    "a text that is changed": () =>
      call("EmbeddingService/UpdateEmbedding", {
        embedding_id: "default-5",
        content: "an osprey",
        embedding: [1, 2],
      }),
    "a text that is replaced": () =>
      call("EmbeddingService/BatchCreateEmbeddings", {
        embeddings: [{ id: "default-5", content: "an osprey", embedding: [1, 2] }],
        mode: "upsert",
      }),
  };
  test.each(Object.entries(changes))("%s", async (_, change) => {
    await change();
    expect(await countWords()).toBe(ROWS - 1);
    expect(await cachedIds()).not.toContain("default-5");
  });

  test("their store", async () => {
    await call("VectorStoreService/DeleteVectorStore", {});
    expect(await countWords()).toBe(0);
  });

  test("rows that move to a table of their own", async () => {
    const before = await search("heron 5");
    await promoteStore(database, name, TEST_INDEXES);
    expect(await countWords()).toBe(0);
    expect(await search("heron 5")).toEqual(before);
  });
});

test.runIf(inject("template").kind === "postgres")(
  "words are not cached while writers of the store are at work",
  async () => {
    const writer = await pool.connect();
    await writer.query("begin");
    expect(await tryLock(writer, tables, placementLock(name))).toBe(true);
    await new WordCache(pool, tables).note(name, "english");
    expect(await countWords()).toBe(0);
    await writer.query("commit");
    writer.release();
    await new WordCache(pool, tables).note(name, "english");
    expect(await countWords()).toBe(ROWS);
  },
);
