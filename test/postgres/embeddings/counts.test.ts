import { expect, inject, test } from "vitest";
import { transaction } from "../../../src/postgres/transaction.ts";
import { lockStore, updateLastActive } from "../../../src/storage/counts.ts";
import { findStore } from "../../../src/storage/stores.ts";
import { openTestDatabase } from "../../support/databases/database.ts";

const native = inject("template").kind === "postgres";

// The embedded database has one connection, so nobody else can hold a lock there.
test.runIf(native)("a search does not wait for whoever is writing to the store", async () => {
  await using database = await openTestDatabase();
  const { pool, tables } = database;
  await pool.query("insert into vector_stores (id, last_active_at) values ('s', '2020-01-01')");
  const lastActiveAt = async () => (await findStore(pool, tables, "s"))?.last_active_at?.getFullYear();

  await transaction(pool, async (client) => {
    expect(await lockStore(client, tables, "s")).toBe(true);
    await updateLastActive(pool, tables, ["s"]);
    expect(await lastActiveAt()).toBe(2020);
  });
  await updateLastActive(pool, tables, ["s"]);
  expect(await lastActiveAt()).toBeGreaterThan(2020);
});
