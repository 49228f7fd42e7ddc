// SQL beside the service sees the rows of all stores by one view, wherever they are.
import pg from "pg";
import { afterAll, expect, test } from "vitest";
import { prepareCitus } from "../../src/postgres/citus/cluster.ts";
import { promoteStore } from "../../src/indexes/worker.ts";
import { openTestDatabase } from "../support/databases/database.ts";
import { seedStore, TEST_INDEXES } from "../support/stores/index-store.ts";

const database = await openTestDatabase();
afterAll(() => database.close());
const { pool } = database;

let stores = 0;

async function makeStore(rows: number, state: "small" | "large"): Promise<string> {
  const id = `store ${++stores}`;
  await seedStore(database, id, rows);
  if (state === "large") await promoteStore(database, id, TEST_INDEXES);
  return id;
}

const countAll = async (source = "all_embeddings", client: pg.Pool | pg.Client = pool) => {
  const { rows } = await client.query<{ id: string; count: number }>(
    `select vector_store_id as id, count(*)::int as count from ${source} group by 1`,
  );
  return Object.fromEntries(rows.map(({ id, count }) => [id, count]));
};

const prepare = (mode: "auto" | "off") =>
  prepareCitus(database, mode, { memoryBytes: 64 * 1024 * 1024, workers: 0 });

test("the view has each row once, while stores are made, moved and deleted", async () => {
  const small = await makeStore(3, "small");
  const large = await makeStore(5, "large");
  expect(await countAll("embeddings")).toEqual({ [small]: 3 });
  expect(await countAll()).toEqual({ [small]: 3, [large]: 5 });
  expect(await countAll(`all_embeddings_of(array['${large}'])`)).toEqual({ [large]: 5 });
  expect(await countAll(`all_embeddings_of(array['${small}', 'none'])`)).toEqual({ [small]: 3 });

  // After the switch the old rows are in the shared table until the next step has deleted them.
  await pool.query(
    "insert into embeddings (vector_store_id, id, content, embedding) values ($1, 'e1', '', '[1,2,3]')",
    [large],
  );
  expect(await countAll()).toEqual({ [small]: 3, [large]: 5 });
  await pool.query("delete from embeddings where vector_store_id = $1", [large]);

  const { rows } = await pool.query<{ own_table: string }>(
    "delete from vector_stores where id = $1 returning own_table",
    [large],
  );
  expect(await countAll()).toEqual({ [small]: 3 });
  // As versions do that know nothing of the view.
  await pool.query(`drop table "${rows[0]?.own_table}"`);
  expect(await countAll()).toEqual({ [small]: 3 });
});

test("a table that was made before the cluster, a child of the shared one, is in it once", async () => {
  const off = { ...database, citus: await prepare("off") };
  const id = `store ${++stores}`;
  await seedStore(database, id, 4);
  await promoteStore(off, id, TEST_INDEXES);
  expect((await countAll("embeddings"))[id]).toBe(4);
  expect((await countAll())[id]).toBe(4);
});

test("has the columns of the shared table, those that are added later too, from the next start on", async () => {
  const id = await makeStore(2, "small");
  await pool.query("alter table embeddings add column note text default 'n'");
  expect((await countAll())[id]).toBe(2);
  await prepare("auto");
  const { rows } = await pool.query("select note from all_embeddings where vector_store_id = $1", [id]);
  expect(rows).toEqual([{ note: "n" }, { note: "n" }]);
  await pool.query("drop view all_embeddings; alter table embeddings drop column note");
  await prepare("auto");
  expect((await countAll())[id]).toBe(2);
});

test("another view of that name is left alone", async () => {
  await pool.query("drop view all_embeddings; create view all_embeddings as select 1 as one");
  await prepare("auto");
  expect((await pool.query("select * from all_embeddings")).rows).toEqual([{ one: 1 }]);
  await pool.query("drop view all_embeddings");
  await prepare("auto");
  await countAll();
});

test("a role sees by it the stores that row-level security shows, and nothing without privileges", async () => {
  const [seen, unseen] = [await makeStore(3, "large"), await makeStore(3, "large")];
  const shared = await makeStore(3, "small");
  const role = `pgquiver_analyst_${process.pid}`;
  await pool.query(`create role ${role} login`);
  const analyst = new pg.Client(
    Object.assign(new URL(String(database.url)), { username: role, password: "" }).href,
  );
  try {
    await analyst.connect();
    await expect(countAll("all_embeddings", analyst)).rejects.toMatchObject({ code: "42501" });
    const own = await pool.query<{ name: string }>(
      "select own_table as name from vector_stores where own_table is not null",
    );
    const tables = ["vector_stores", "embeddings", ...own.rows.map(({ name }) => name)];
    await pool.query(`grant select on ${tables.join(", ")} to ${role}`);
    await pool.query(`create policy analyst on vector_stores to ${role} using (id in ('${seen}', 'x'))`);
    await pool.query("alter table vector_stores enable row level security");
    expect(await countAll("all_embeddings", analyst)).toEqual({ [seen]: 3 });
    expect(await countAll(`all_embeddings_of(array['${unseen}', '${shared}'])`, analyst)).toEqual({});
  } finally {
    await analyst.end();
    await pool.query("alter table vector_stores disable row level security");
    await pool.query("drop policy if exists analyst on vector_stores");
    await pool.query(`drop owned by ${role}`);
    await pool.query(`drop role ${role}`);
  }
});
