import { afterAll, expect, test } from "vitest";
import { grpcByGrpcJs } from "../../support/clients/grpc-client.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { call, ...client } = grpcByGrpcJs.connect(server);
afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

/** Texts that together are larger than the 4 MiB that grpc-js takes in one message. */
const embeddings = Array.from({ length: 6 }, (_, index) => ({
  id: `row-${index}`,
  content: "word ".repeat(200_000),
  embedding: [1, index],
}));
const store = { vector_store_id: "large" };

test("a client with gRPC's default limit adds and lists texts of more than 4 MiB, and its channel survives replies beyond it", async () => {
  await call("VectorStoreService/CreateVectorStore", { id: store.vector_store_id });
  const { data } = await call("EmbeddingService/BatchCreateEmbeddings", { ...store, embeddings });
  const ids = embeddings.map(({ id }) => id);
  expect(data.map(({ id }: { id: string }) => id)).toEqual(ids);

  const listed: string[] = [];
  for (let after: string | undefined, isMore = true; isMore;) {
    const page = await call("EmbeddingService/ListEmbeddings", { ...store, order: "asc", limit: 100, after });
    listed.push(...page.data.map(({ id }: { id: string }) => id));
    after = page.last_id;
    isMore = page.has_more;
  }
  expect(listed).toEqual(ids);

  for (let resets = 0; resets < 10; resets++) {
    await expect(
      call("SearchService/Search", { ...store, embedding: [1, 0], max_num_results: 50 }),
    ).rejects.toMatchObject({ message: expect.stringContaining("larger than max") });
  }
  expect(await call("VectorStoreService/GetVectorStore", store)).toMatchObject({ id: "large" });
});
