import { SparseVector } from "pgvector";
import { expect, test } from "vitest";
import { openEmptyDatabase, openTestDatabase } from "../../support/databases/database.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";

const VALUES = `select '[1,-2.5]'::vector as vector, '[0.5,2]'::halfvec as half, '{1:1.5,3:-2}/4'::sparsevec as sparse`;

test("a connection of the pool reads pgvector's types as numbers", async () => {
  await using database = await openTestDatabase();
  const { rows } = await database.pool.query(VALUES);
  expect(rows).toEqual([{ vector: [1, -2.5], half: [0.5, 2], sparse: new SparseVector("{1:1.5,3:-2}/4") }]);
});

test("so does the connection that has just created pgvector", async () => {
  await using database = await openEmptyDatabase();
  const { rows: before } = await database.pool.query("select 1 from pg_type where typname = 'vector'");
  expect(before).toEqual([]);
  await migrate(database);
  const { rows } = await database.pool.query(VALUES);
  expect(rows[0]).toMatchObject({ vector: [1, -2.5] });
});
