import { afterAll, expect, test } from "vitest";
import { promoteStore } from "../../../src/indexes/worker.ts";
import type { Reply } from "../../support/clients/client.ts";
import { TEST_INDEXES } from "../../support/stores/index-store.ts";
import { restOverHttp1 } from "../../support/clients/rest-client.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
const client = restOverHttp1.connect(server);
afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

test("a hit names the file it was cut from, or itself", async () => {
  const { call } = client;
  const store = { vector_store_id: (await call("VectorStoreService/CreateVectorStore")).id };
  const embeddings = ["chunk", "orphan", "direct"].map((id, row) => ({
    id,
    content: "whales",
    embedding: [1, row],
    metadata: { filename: `${id}.txt` },
  }));
  await call("EmbeddingService/BatchCreateEmbeddings", { ...store, embeddings });
  await pool.query(
    "insert into pgquiver_files (id, state, filename, created_at) values ('file-1', 'ready', 'book.pdf', now())",
  );
  await pool.query("update embeddings set file_id = 'file-1' where id = 'chunk'");
  await pool.query("update embeddings set file_id = 'file-gone' where id = 'orphan'");
  const expected = [
    { id: "chunk", file_id: "file-1", filename: "book.pdf" },
    { id: "orphan", file_id: "file-gone", filename: "orphan.txt" },
    { id: "direct", file_id: "direct", filename: "direct.txt" },
  ];
  const find = async (request: object): Promise<Reply[]> =>
    (await call("SearchService/Search", { ...store, ...request })).data;
  const byWords = {
    query: "whales",
    ranking_options: { hybrid_search: { embedding_weight: 0, text_weight: 1 } },
  };
  for (const place of ["shared", "own"]) {
    if (place === "own") await promoteStore(server.database, store.vector_store_id, TEST_INDEXES);
    expect(await find({ embedding: [1, 0] })).toMatchObject(expected);
    expect(await find(byWords)).toEqual(
      expect.arrayContaining(expected.map((hit) => expect.objectContaining(hit))),
    );
  }
});
