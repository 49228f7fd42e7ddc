import { expect, inject, test } from "vitest";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import { openEmptyDatabase } from "../../support/databases/database.ts";
import { jsonClient } from "../../support/clients/json.ts";
import { createLitellmTables } from "../../support/databases/litellm-tables.ts";
import { startServer } from "../../support/servers/server.ts";

const LONG = "long ".repeat(200);
/** Deeper than the stack of a session; the embedded database would stop. */
const DEEP = (inject("template").kind === "postgres" ? '{"a":' : "[").repeat(100_000);

/** What was stored -> what is stored after the adoption, and the metadata of a store as the API shows it. */
const CASES: [stored: unknown, adopted: unknown, shown: Record<string, string>][] = [
  ["a string", { value: "a string" }, { value: "a string" }],
  ["", { value: "" }, { value: "" }],
  [LONG, { value: LONG }, { value: LONG }],
  [DEEP, { value: DEEP }, { value: DEEP }],
  ['{"team": "a"}', { team: "a" }, { team: "a" }],
  [
    String.raw`{"nul": "\u0000"}`,
    { value: String.raw`{"nul": "\u0000"}` },
    { value: String.raw`{"nul": "\u0000"}` },
  ],
  ["[1]", { value: "[1]" }, { value: "[1]" }],
  [42, { value: 42 }, { value: "42" }],
  [true, { value: true }, { value: "true" }],
  [["x", { y: 1 }], { value: ["x", { y: 1 }] }, { value: '["x",{"y":1}]' }],
  [null, null, {}],
  [{ team: "b" }, { team: "b" }, { team: "b" }],
];

test("metadata that is no JSON object is kept as one, and the log counts it", async () => {
  await using database = await openEmptyDatabase();
  await createLitellmTables(database, "vector(2)");
  const { pool } = database;
  for (const [index, [stored]] of CASES.entries()) {
    const id = `s${String(index).padStart(2, "0")}`;
    const json = JSON.stringify(stored);
    await pool.query("insert into vector_stores (id, name, metadata) values ($1, $1, $2::jsonb)", [id, json]);
    await pool.query("insert into embeddings values ($1, 's00', $1, '[1,1]', $2::jsonb)", [id, json]);
  }
  await pool.query("insert into embeddings values ('none', 's00', '', '[1,1]', null)");
  const log: string[] = [];
  await migrate(database, (message) => log.push(message));
  const said = (table: string) =>
    `002_adopt_litellm_pgvector.sql: the metadata of 11 rows of ${table} was not a JSON object: an object encoded as a text is decoded, null is removed, and any other value is kept under the key "value"`;
  expect(log).toEqual(expect.arrayContaining([said("vector_stores"), said("embeddings")]));
  for (const [table, filter] of [
    ["vector_stores", "true"],
    ["embeddings", "id <> 'none'"],
  ]) {
    const { rows } = await pool.query(`select metadata from ${table} where ${filter} order by id`);
    expect(rows.map(({ metadata }) => metadata)).toEqual(CASES.map(([, adopted]) => adopted));
  }
  await using server = await startServer({ database });
  const { json } = await jsonClient(server.url)("GET", "/v1/vector_stores?order=asc&limit=100");
  const stores = json["data"] as { id: string; metadata: unknown }[];
  expect(stores.toSorted((a, b) => (a.id < b.id ? -1 : 1)).map(({ metadata }) => metadata)).toEqual(
    CASES.map(([, , shown]) => shown),
  );
});

test("objects are not written again", async () => {
  await using database = await openEmptyDatabase();
  await createLitellmTables(database, "vector(2)");
  const { pool } = database;
  await pool.query("insert into vector_stores (id, name) values ('s', 's')");
  await pool.query(
    `insert into embeddings values ('o', 's', '', '[1,1]', '{"a": 1}'), ('t', 's', '', '[1,1]', '"x"')`,
  );
  const places = async () =>
    (await pool.query("select id, ctid::text as place from embeddings order by id")).rows.map(
      ({ place }) => place,
    );
  const before = await places();
  await migrate(database);
  const after = await places();
  expect(after[0]).toBe(before[0]);
  expect(after[1]).not.toBe(before[1]);
});
