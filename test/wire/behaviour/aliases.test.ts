import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { type Json, type Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  const stores = (rpc: string, request: Json): Promise<Reply> => call(`VectorStoreService/${rpc}`, request);
  const alias = (rpc: string, request: Json = {}) => stores(`${rpc}VectorStoreAlias`, request);
  const names = (request: Json = {}) => stores("ListVectorStoreAliases", request);
  const add = (vector_store_id: string, content: string) =>
    call("EmbeddingService/CreateEmbedding", { vector_store_id, content, embedding: [1] });
  const search = async (vector_store_id: string): Promise<string[]> => {
    const { data } = await call("SearchService/Search", { vector_store_id, embedding: [1] });
    return data.map(({ content }: Reply) => content[0].text);
  };

  beforeEach(async () => {
    await pool.query("truncate vector_stores, embeddings, pgquiver_aliases");
    for (const id of ["blue", "green"]) {
      await stores("CreateVectorStore", { id });
      await add(id, id);
    }
    // Of a truncation nothing is told.
    await alias("Create", { name: "other", vector_store_id: "blue" });
    await alias("Delete", { name: "other" });
  });

  test("an alias is taken for its store, and switched", async () => {
    const made = await alias("Create", { name: "live", vector_store_id: "blue" });
    expect(made).toEqual({
      name: "live",
      object: "vector_store.alias",
      vector_store_id: "blue",
      created_at: expect.any(Number),
      updated_at: expect.any(Number),
    });
    expect(await search("live")).toEqual(["blue"]);
    expect(await add("live", "more")).toMatchObject({ vector_store_id: "blue" });
    expect(await stores("GetVectorStore", { vector_store_id: "live" })).toMatchObject({
      id: "blue",
      embedding_count: 2,
    });
    await alias("Update", { name: "live", vector_store_id: "green" });
    expect(await search("live")).toEqual(["green"]);
    expect(await alias("Get", { name: "live" })).toMatchObject({ vector_store_id: "green" });
    expect(await search("blue")).toHaveLength(2);
    expect(await alias("Delete", { name: "live" })).toEqual({
      name: "live",
      object: "vector_store.alias.deleted",
      deleted: true,
    });
    await expect(search("live")).rejects.toMatchObject({ code: "not_found", param: "vector_store_id" });
  });

  test("an alias may be given by another alias, and stays with the store", async () => {
    await alias("Create", { name: "first", vector_store_id: "blue" });
    const second = await alias("Create", { name: "second", vector_store_id: "first" });
    expect(second.vector_store_id).toBe("blue");
    await alias("Update", { name: "first", vector_store_id: "green" });
    expect(await search("second")).toEqual(["blue"]);
  });

  test("names of aliases and ids of stores are kept apart", async () => {
    await alias("Create", { name: "live", vector_store_id: "blue" });
    for (const ask of [
      () => alias("Create", { name: "green", vector_store_id: "blue" }),
      () => alias("Create", { name: "live", vector_store_id: "green" }),
      () => stores("CreateVectorStore", { id: "live" }),
    ])
      await expect(ask()).rejects.toMatchObject({ reason: "ALREADY_EXISTS" });
  });

  test("a store that an alias names is not deleted", async () => {
    await alias("Create", { name: "live", vector_store_id: "blue" });
    for (const vector_store_id of ["blue", "live"]) {
      await expect(stores("DeleteVectorStore", { vector_store_id })).rejects.toMatchObject({
        reason: "VECTOR_STORE_ALIASED",
        message: expect.stringContaining("'live'"),
      });
    }
    expect(await search("live")).toEqual(["blue"]);
    await alias("Update", { name: "live", vector_store_id: "green" });
    expect(await stores("DeleteVectorStore", { vector_store_id: "blue" })).toMatchObject({ deleted: true });
  });

  test("aliases are listed by name, page by page", async () => {
    for (const name of ["c", "a", "b"]) await alias("Create", { name, vector_store_id: "blue" });
    const first = await names({ limit: 2 });
    expect(first).toMatchObject({ object: "list", has_more: true, data: [{ name: "a" }, { name: "b" }] });
    expect(await names({ limit: 2, after: "b" })).toMatchObject({ has_more: false, data: [{ name: "c" }] });
  });

  test.each<[string, Json, object]>([
    ["Create", { name: "live", vector_store_id: "none" }, { param: "vector_store_id", code: "not_found" }],
    ["Create", { name: "a/b", vector_store_id: "blue" }, { param: "name", code: "invalid_argument" }],
    ["Create", { vector_store_id: "blue" }, { param: "name", code: "invalid_argument" }],
    ["Create", { name: "live" }, { param: "vector_store_id", code: "invalid_argument" }],
    ["Update", { name: "none", vector_store_id: "blue" }, { param: "name", code: "not_found" }],
    ["Get", { name: "none" }, { param: "name", code: "not_found" }],
    ["Delete", { name: "none" }, { param: "name", code: "not_found" }],
  ])("%s refuses %o", async (rpc, request, error) => {
    await expect(alias(rpc, request)).rejects.toMatchObject(error);
  });
});
