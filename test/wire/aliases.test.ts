import { afterAll, expect, test } from "vitest";
import type { Reply } from "../support/clients/client.ts";
import { openTestDatabase } from "../support/databases/database.ts";
import { makeProject, makeTestKey } from "../support/stores/keys.ts";
import { jsonClient, type Send } from "../support/clients/json.ts";
import { startServer } from "../support/servers/server.ts";

const root = "a-key-of-the-environment";
const database = await openTestDatabase();
const server = await startServer({ database, apiKeys: [root] });
/** Another process of the service, which is told of nothing. */
const other = await startServer({ database, apiKeys: [root] });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await other[Symbol.asyncDispose]();
  await database.close();
});

async function ok(send: Send, method: string, path: string, body?: unknown): Promise<Reply> {
  const { status, json } = await send(method, `/v1${path}`, body);
  expect(status, JSON.stringify(json)).toBe(200);
  return json;
}

/** Makes stores with rows that say whose they are. */
async function fill(send: Send, stores: readonly string[], word = ""): Promise<void> {
  for (const id of stores) {
    await ok(send, "POST", "/vector_stores", { id });
    const embeddings = Array.from({ length: 10 }, (_, n) => ({ content: word + id, embedding: [1, n] }));
    await ok(send, "POST", `/vector_stores/${id}/embeddings/batch`, { embeddings });
  }
}

async function search(send: Send, store: string): Promise<string[]> {
  const { data } = await ok(send, "POST", `/vector_stores/${store}/search`, { embedding: [1, 1] });
  return data.map(({ content }: Reply) => content[0].text);
}

const name = (send: Send, alias: string, vector_store_id: string) =>
  ok(send, "POST", "/vector_store_aliases", { name: alias, vector_store_id });
const point = (send: Send, alias: string, vector_store_id: string) =>
  ok(send, "POST", `/vector_store_aliases/${alias}`, { vector_store_id });

test("under searches an alias is switched without a failure or a mixture, and every process sees it", async () => {
  const [here, there] = [jsonClient(server.url, root), jsonClient(other.url, root)];
  const stores = ["blue", "green"];
  await fill(here, stores);
  await name(here, "live", "blue");
  let isOver = false;
  const counts = { searches: 0, switches: 0 };
  const searchOn = async (send: Send) => {
    while (!isOver) {
      const found = await search(send, "live");
      expect(found).toHaveLength(10);
      expect(new Set(found).size).toBe(1);
      expect(stores).toContain(found[0]);
      counts.searches++;
    }
  };
  const searchers = [here, here, there, there].map(searchOn);
  for (; counts.switches < 6; counts.switches++) {
    const target = stores[(counts.switches + 1) % 2] as string;
    await point(here, "live", target);
    const switchedAtMs = performance.now();
    expect((await search(here, "live"))[0]).toBe(target);
    await expect
      .poll(async () => (await search(there, "live"))[0], { interval: 5, timeout: 5_000 })
      .toBe(target);
    expect(performance.now() - switchedAtMs).toBeLessThan(2_000);
  }
  isOver = true;
  await Promise.all(searchers);
  expect(counts.searches).toBeGreaterThan(50);
});

test("an alias is its project's, and a key needs the store that it names", async () => {
  const projects = [await makeProject(database), await makeProject(database)];
  const [a, b] = (await Promise.all(projects.map(async (project) => makeTestKey(database, project)))).map(
    (key) => jsonClient(server.url, key),
  ) as [Send, Send];
  for (const [send, word] of [
    [a, "a "],
    [b, "b "],
  ] as const) {
    await fill(send, ["one", "two"], word);
    await name(send, "live", word === "a " ? "one" : "two");
  }
  expect(new Set(await search(a, "live"))).toEqual(new Set(["a one"]));
  expect(new Set(await search(b, "live"))).toEqual(new Set(["b two"]));
  expect(await ok(a, "GET", "/vector_store_aliases/live")).toMatchObject({ vector_store_id: "one" });

  const limited = jsonClient(
    server.url,
    await makeTestKey(database, projects[0] as string, undefined, ["one"]),
  );
  expect(new Set(await search(limited, "live"))).toEqual(new Set(["a one"]));
  expect((await limited("POST", "/v1/vector_store_aliases/live", { vector_store_id: "two" })).status).toBe(
    404,
  );
  await point(a, "live", "two");
  expect((await limited("POST", "/v1/vector_stores/live/search", { embedding: [1, 1] })).status).toBe(404);
  expect((await limited("GET", "/v1/vector_store_aliases/live")).status).toBe(404);
  expect((await ok(limited, "GET", "/vector_store_aliases")).data).toEqual([]);
});

test("streams are loaded into the store that an alias names", async () => {
  const send = jsonClient(server.url, root);
  await fill(send, ["loaded"]);
  await name(send, "load", "loaded");
  const reply = await send(
    "POST",
    "/v1/vector_stores/load/embeddings/ingest",
    { content: "x", embedding: [1, 2] },
    {
      "content-type": "application/x-ndjson",
    },
  );
  expect(reply.json).toMatchObject({ vector_store_id: "loaded", rows_written: 1 });
  const exported = await fetch(`${server.url}/v1/vector_stores/load/embeddings/export`, {
    headers: { authorization: `Bearer ${root}` },
  });
  expect((await exported.text()).trim().split("\n")).toHaveLength(11);
});

test("a store that an older version creates under the name of an alias hides the alias", async () => {
  const send = jsonClient(server.url, root);
  await fill(send, ["target", "late"]);
  await name(send, "shadow", "target");
  await database.pool.query("update vector_stores set id = 'shadow' where id = 'late'");
  await database.pool.query(
    "update embeddings set vector_store_id = 'shadow' where vector_store_id = 'late'",
  );
  await expect.poll(async () => (await search(send, "shadow"))[0], { timeout: 5_000 }).toBe("late");
});

test("stores and aliases created at the same time never share a name", async () => {
  const send = jsonClient(server.url, root);
  await fill(send, ["base"]);
  for (let round = 0; round < 10; round++) {
    const id = `n${round}`;
    const replies = await Promise.all([
      send("POST", "/v1/vector_stores", { id }),
      send("POST", "/v1/vector_store_aliases", { name: id, vector_store_id: "base" }),
    ]);
    expect(replies.map(({ status }) => status).toSorted((x, y) => x - y)).toEqual([200, 409]);
  }
});

test("a store is not deleted while it becomes the target of an alias", async () => {
  const send = jsonClient(server.url, root);
  for (let round = 0; round < 10; round++) {
    const id = `t${round}`;
    await ok(send, "POST", "/vector_stores", { id });
    const [made, deleted] = await Promise.all([
      send("POST", "/v1/vector_store_aliases", { name: `to-${id}`, vector_store_id: id }),
      send("DELETE", `/v1/vector_stores/${id}`),
    ]);
    expect([made.status, deleted.status]).toBeOneOf([
      [200, 400],
      [404, 200],
    ]);
  }
});
