import { afterAll, expect, test } from "vitest";
import { promoteStore } from "../../../src/indexes/worker.ts";
import type { Client } from "../../support/clients/client.ts";
import { openEmptyDatabase, openTestDatabase } from "../../support/databases/database.ts";
import { dumpAndRestore, findPostgresProgram } from "../../support/databases/dump.ts";
import { findLeftovers, TEST_INDEXES } from "../../support/stores/index-store.ts";
import { restOverHttp1 } from "../../support/clients/rest-client.ts";
import { startServer } from "../../support/servers/server.ts";

const ROWS = 1_000;
const KEY = "sk-backup";
const as = { key: KEY };

interface Finding {
  check: string;
  severity: string;
}

const database = await openTestDatabase();
const restored = await openEmptyDatabase();
afterAll(() => Promise.all([database.close(), restored.close()]));

const canDump = database.kind === "postgres" && findPostgresProgram("pg_dump") !== undefined;
if (!canDump) console.warn("No PostgreSQL, or no pg_dump of its version: backups are not tried.");

/** Every row's vector lies elsewhere on a circle, so that the nearest rows of any query are certain. */
const vectorAt = (row: number) => [Math.cos((row * Math.PI) / ROWS), Math.sin((row * Math.PI) / ROWS), 0.1];

async function fill({ call }: Client, store: string, rows: number): Promise<void> {
  await call("VectorStoreService/CreateVectorStore", { id: store, name: store }, as);
  const embeddings = Array.from({ length: rows }, (_, row) => ({
    id: `r${row}`,
    content: `text ${row} of ${row % 7 === 0 ? "whales" : "boats"}`,
    embedding: vectorAt(row),
    metadata: { number: row, kind: row % 2 === 0 ? "even" : "odd" },
  }));
  await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: store, embeddings }, as);
}

/** What clients see of the stores: the answers of each way of searching, and the state of the index. */
async function look({ call }: Client): Promise<unknown[]> {
  const seen: unknown[] = [];
  for (const vector_store_id of ["large", "small"]) {
    const search = async (request: object) => {
      const reply = await call("SearchService/Search", { vector_store_id, ...request }, as);
      const { method, complete } = reply.statistics;
      return { method, complete, data: reply.data };
    };
    seen.push(
      await search({ embedding: vectorAt(42) }),
      await search({ embedding: vectorAt(42), filters: { type: "eq", key: "kind", value: "odd" } }),
      await search({ embedding: vectorAt(0), filters: { type: "gte", key: "number", value: ROWS - 5 } }),
      await search({
        query: "whales",
        embedding: vectorAt(7),
        ranking_options: { hybrid_search: { embedding_weight: 0.5, text_weight: 0.5 } },
      }),
      await call("VectorStoreService/GetVectorStore", { vector_store_id }, as).then((store) => ({
        ...store,
        last_active_at: null,
      })),
    );
  }
  return seen;
}

const authorization = { authorization: `Bearer ${KEY}` };
const FILE = "the bytes of a file";

async function uploadFile(url: string): Promise<string> {
  const body = new FormData();
  body.set("purpose", "assistants");
  body.set("file", new File([FILE], "file.txt"));
  const reply = await fetch(`${url}/v1/files`, { method: "POST", headers: authorization, body });
  return ((await reply.json()) as { id: string }).id;
}

async function readFile(url: string, id: string): Promise<string> {
  return (await fetch(`${url}/v1/files/${id}/content`, { headers: authorization })).text();
}

test.runIf(canDump)(
  "a restored dump has the stores' own tables and indexes, and gives the same results",
  async () => {
    let before: unknown[];
    let file: string;
    {
      await using server = await startServer({ database, apiKeys: [KEY] });
      await using client = restOverHttp1.connect(server);
      await fill(client, "large", ROWS);
      await fill(client, "small", 50);
      await client.call(
        "IndexService/UpdateIndex",
        {
          vector_store_id: "large",
          policy: "always",
          indexed_attributes: [{ key: "number", type: "number" }],
        },
        as,
      );
      await promoteStore(database, "large", TEST_INDEXES);
      file = await uploadFile(server.url);
      before = await look(client);
    }
    expect(before[0]).toMatchObject({ method: "index", complete: true });
    expect(before[5]).toMatchObject({ method: "exact", complete: true });
    const made = await findLeftovers(database);
    expect([made.tables.length, made.indexes.length]).toEqual([1, 1]);

    await dumpAndRestore(String(database.url), String(restored.url));

    expect(await findLeftovers(restored)).toEqual(made);
    await using server = await startServer({ database: restored, apiKeys: [KEY] });
    await using client = restOverHttp1.connect(server);
    expect(await look(client)).toEqual(before);
    const findings = (await client.call("DiagnosticsService/Diagnose", {}, as)).data as Finding[];
    for (const name of ["migrations", "invalid_indexes", "own_tables", "counts", "dimensions"]) {
      const found = findings.filter(({ check }) => check === name);
      expect(found, name).toEqual([expect.objectContaining({ severity: "ok" })]);
    }
    expect(await readFile(server.url, file)).toBe(FILE);
    const embeddings = [{ id: "after", content: "written after", embedding: vectorAt(42) }];
    await client.call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: "large", embeddings }, as);
    const found = await client.call(
      "SearchService/Search",
      { vector_store_id: "large", embedding: vectorAt(42) },
      as,
    );
    expect(found.data.map(({ id }: { id: string }) => id)).toContain("after");
  },
);
