import { afterAll, describe, expect, test } from "vitest";
import { protocols } from "../../support/clients/clients.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  /** The ids of an answer and of an error to a caller that sends this one. */
  async function idsFor(id?: string): Promise<(string | undefined)[]> {
    const headers: Record<string, string> = id === undefined ? {} : { "x-request-id": id };
    const answered = Promise.withResolvers<string | undefined>();
    await call("VectorStoreService/ListVectorStores", {}, { headers, onRequestId: answered.resolve });
    const refused = call("VectorStoreService/GetVectorStore", { vector_store_id: "none" }, { headers });
    const error = await refused.then(
      () => expect.unreachable(),
      (reason: { requestId?: string }) => reason,
    );
    return [await answered.promise, error.requestId];
  }

  test.each(["req_1.A:b-c", "x".repeat(128)])("answers with the caller's id %s", async (id) => {
    expect(await idsFor(id)).toEqual([id, id]);
  });

  test.each(["with space", 'quote"', "x".repeat(129)])(
    "makes an id where the caller's is not sane: %s",
    async (id) => {
      for (const made of await idsFor(id)) expect(made).toMatch(/^[0-9a-f-]{36}$/);
    },
  );

  test("makes a new id for every call", async () => {
    const ids = [...(await idsFor()), ...(await idsFor())];
    for (const id of ids) expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect(new Set(ids).size).toBe(4);
  });

  test("sends messages as they are, whatever they hold", async () => {
    const id = "a:b, c% %3A ü🐘 \\ \"'";
    const read = call("VectorStoreService/GetVectorStore", { vector_store_id: id });
    await expect(read).rejects.toThrow(`No vector store found with id '${id}'.`);
  });
});
