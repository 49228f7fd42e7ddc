// What happens to attached files while somebody holds locks: natively, since the embedded database has one connection.
import { afterAll, describe, expect, inject, onTestFinished, test, vi } from "vitest";
import { insertAttachments } from "../../../src/vector-store-files/rows.ts";
import { cancelBatch, countFiles, insertBatch } from "../../../src/vector-store-files/batches.ts";
import { attachFiles } from "../../../src/vector-store-files/attach.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { clientOf } from "../../support/servers/file-service.ts";
import { uploadText } from "../../support/stores/files.ts";
import { startServer } from "../../support/servers/server.ts";

describe.runIf(inject("template").kind === "postgres")("on a server with others", async () => {
  const database = await openTestDatabase();
  const { pool, tables } = database;
  // Nobody processes the files.
  const server = await startServer({ database, files: { workers: 0 } });
  const client = clientOf(server);
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await database.close();
  });

  const chunking = { unit: "tokens", sizeMax: 800, overlap: 400 } as const;
  const toAttach = (fileId: string) => ({ fileId, attributes: null, chunking, param: "file_ids" });

  async function begin() {
    const other = await pool.connect();
    onTestFinished(async () => {
      await other.query("rollback");
      other.release();
    });
    await other.query("begin");
    return other;
  }

  test("a store that is deleted while files are attached leaves none behind", async () => {
    const { id: storeId } = await client.vectorStores.create({});
    const ids = [await uploadText(client, "one"), await uploadText(client, "two")];
    const other = await begin();
    expect(await attachFiles(other, tables, storeId, ids.map(toAttach))).toBe(true);
    const deletion = client.vectorStores.delete(storeId);
    const waiting =
      "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    await vi.waitFor(async () => expect((await pool.query(waiting)).rowCount).toBeGreaterThan(0), 60_000);
    await other.query("commit");
    expect(await deletion).toMatchObject({ deleted: true });
    const left = await pool.query(`select from ${tables.vectorStoreFiles} where vector_store_id = $1`, [
      storeId,
    ]);
    expect(left.rowCount).toBe(0);
  });

  test("files take their turns in the order given, each once", async () => {
    const { id: storeId } = await client.vectorStores.create({});
    const ids = [
      await uploadText(client, "one"),
      await uploadText(client, "two"),
      await uploadText(client, "three"),
    ];
    const other = await begin();
    const [a = "", b = "", c = ""] = ids;
    await attachFiles(other, tables, storeId, [b, a, b, c].map(toAttach));
    const { rows } = await other.query(
      `select file_id from ${tables.vectorStoreFiles} where vector_store_id = $1 order by place`,
      [storeId],
    );
    expect(rows.map(({ file_id: id }) => id)).toEqual([b, a, c]);
  });

  test("a batch of which one file is about to complete is cancelled but for that one", async () => {
    await pool.query("insert into vector_stores (id) values ('publishing')");
    const fileIds = ["file-a", "file-b", "file-c"];
    await insertAttachments(pool, tables, "publishing", fileIds.map(toAttach));
    const batch = await insertBatch(pool, tables, {
      id: "vsfb_1",
      storeId: "publishing",
      createdAt: new Date(),
      fileIds,
    });
    const publisher = await begin();
    await publisher.query(`select from ${tables.vectorStoreFiles} where file_id = 'file-b' for update`);
    expect(await cancelBatch(pool, tables, batch)).toBe(2);
    expect(await countFiles(pool, tables, batch)).toMatchObject({ in_progress: 1, cancelled: 2 });
    await publisher.query("commit");
    expect(await cancelBatch(pool, tables, batch)).toBe(1);
  });
});
