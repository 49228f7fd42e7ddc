import { afterAll, describe, expect, test } from "vitest";
import type { Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer({ apiKeys: ["key"] });
afterAll(() => server[Symbol.asyncDispose]());

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  test("an operator is told what is wrong, the worst first, with the remedy", async () => {
    await server.database.pool.query("insert into vector_stores (id, embedding_count) values ('vs', 7)");
    const { object, data } = await call("DiagnosticsService/Diagnose", {}, { key: "key" });
    await server.database.pool.query("delete from vector_stores");
    expect(object).toBe("list");
    expect(data[0]).toEqual({
      check: "counts",
      severity: "error",
      message: "The counter of store vs says 7 embeddings, but the store has 0.",
      remedy: expect.stringContaining("set embedding_count = 0 where id = 'vs';"),
      vector_store_id: "vs",
    });
    const order = ["error", "warning", "notice", "ok"];
    const severities = data.map(({ severity }: Reply) => order.indexOf(severity));
    expect(severities).toEqual(severities.toSorted((a: number, b: number) => a - b));
    expect(data).toContainEqual({
      check: "migrations",
      severity: "ok",
      message: "The tables are up to date.",
      remedy: null,
      vector_store_id: null,
    });
  });

  test("nobody is told without a key", async () => {
    await expect(call("DiagnosticsService/Diagnose")).rejects.toMatchObject({ code: "unauthenticated" });
  });
});
