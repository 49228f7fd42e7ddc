import { setTimeout as delay } from "node:timers/promises";
import { afterAll, expect, test, vi } from "vitest";
import { seededRandom } from "../../../scripts/crash/random.ts";
import { startService } from "../../../scripts/crash/service.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { countByTable, findIndex, findLeftovers, seedStore } from "../../support/stores/index-store.ts";
import { readTexts } from "../../support/databases/placed-rows.ts";

const KILLS = 4;
const STORES = ["one", "two", "three"];

const database = await openTestDatabase();
afterAll(() => database.close());

test.runIf(database.kind === "postgres")(
  "goes on with tables and indexes where a killed service left them, and loses no row",
  async () => {
    const random = seededRandom(9);
    const environment = { DATABASE_URL: String(database.url) };
    for (const id of STORES) {
      await seedStore(database, id, 4_000);
      await database.pool.query("update vector_stores set index_policy = 'always' where id = $1", [id]);
      await database.pool.query(
        "insert into pgquiver_indexes (vector_store_id, attributes) values ($1, $2)",
        [id, JSON.stringify([{ key: "n", type: "number" }])],
      );
    }
    for (let kill = 0; kill < KILLS; kill++) {
      const service = await startService(environment);
      await delay(random.integer(0, 700));
      await service.end("SIGKILL");
      for (const id of STORES) expect((await readTexts(database, id)).size).toBe(4_000);
    }
    const service = await startService(environment);
    for (const id of STORES) {
      await vi.waitFor(
        async () => expect(await findIndex(database, id)).toMatchObject({ index_state: "ready", due: false }),
        {
          timeout: 60_000,
          interval: 100,
        },
      );
      const { own_table: table } = await findIndex(database, id);
      expect(await countByTable(database, id)).toEqual({ [String(table)]: 4_000 });
    }
    expect(service.faults).toEqual([]);
    await service.end("SIGTERM");
    const { tables, indexes } = await findLeftovers(database);
    expect([tables.length, indexes.length]).toEqual([STORES.length, STORES.length]);
    expect(indexes.filter((name) => name.endsWith("(invalid)"))).toEqual([]);
    const { rows } = await database.pool.query(
      "select indisvalid as valid from pg_index join pg_class on pg_class.oid = indexrelid where relname ~ '^embeddings_[0-9]+_attr_'",
    );
    expect(rows).toEqual(STORES.map(() => ({ valid: true })));
  },
  300_000,
);
