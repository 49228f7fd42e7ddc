// A connection keeps a bounded number of statements prepared, however many different ones it runs.
import { afterAll, expect, test } from "vitest";
import { PREPARED_MAX } from "../../../src/postgres/connection/prepared-client.ts";
import { openTestDatabase } from "../../support/databases/database.ts";

const database = await openTestDatabase();
afterAll(() => database.close());

test("the statements used least recently are closed, and prepared again when they are used", async () => {
  const client = await database.pool.connect();
  try {
    const run = async (number: number) => {
      const query = {
        name: `statement_${number}`,
        text: `select ${number}::int as number, $1::int`,
        values: [0],
      };
      expect((await client.query(query)).rows[0]).toMatchObject({ number });
    };
    const count = PREPARED_MAX + 20;
    for (let number = 0; number < count; number++) {
      await run(number);
      await run(number);
      // Remains in use.
      await run(0);
    }
    const { rows } = await client.query<{ name: string }>(
      "select name from pg_prepared_statements where name like 'statement_%'",
    );
    const names = rows.map(({ name }) => name);
    expect(names).toHaveLength(PREPARED_MAX);
    expect(names).toContain("statement_0");
    expect(names).toContain(`statement_${count - 1}`);
    expect(names).not.toContain("statement_1");
    for (const number of [1, 2, 1, count - 1]) await run(number);
  } finally {
    client.release();
  }
});

test("a statement is prepared when it comes a second time", async () => {
  const client = await database.pool.connect();
  try {
    const prepared = async () => {
      const { rows } = await client.query<{ count: number }>(
        "select count(*)::int as count from pg_prepared_statements where name = 'twice'",
      );
      return rows[0]?.count;
    };
    for (const count of [0, 1, 1]) {
      await client.query({ name: "twice", text: "select 1 as one" });
      expect(await prepared()).toBe(count);
    }
  } finally {
    client.release();
  }
});

test("a statement is closed also after a failure in a transaction", async () => {
  const client = await database.pool.connect();
  try {
    for (let round = 0; round < 2; round++)
      for (let number = 0; number < PREPARED_MAX + 5; number++) {
        await client.query("begin");
        await client.query("select 1/0").catch(() => {});
        const query = { name: `failed_${number}`, text: `select ${number}::int`, values: [] };
        await expect(client.query(query)).rejects.toThrow(/current transaction is aborted/);
        await client.query("rollback");
        for (let use = 0; use < 2; use++)
          expect((await client.query(query)).rows).toEqual([{ int4: number }]);
      }
  } finally {
    client.release();
  }
});
