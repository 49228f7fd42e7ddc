import { expect, test } from "vitest";
import { startFileService } from "../../support/servers/file-service.ts";
import { readCounters, uploadText } from "../../support/stores/files.ts";

test("a file of many chunks is changed, shown and removed, some thousands by each statement", async () => {
  const { client, database } = await startFileService();
  const { pool } = database;
  const { id: storeId } = await client.vectorStores.create({});
  const place = { vector_store_id: storeId };
  const fileId = await uploadText(client, "Large.");
  const other = await uploadText(client, "Small.");
  await client.vectorStores.files.createAndPoll(storeId, { file_id: fileId });
  await client.vectorStores.files.createAndPoll(storeId, { file_id: other });
  const chunks = 25_000;
  await pool.query(
    `insert into embeddings (vector_store_id, id, content, embedding, metadata, file_id, chunk_index)
     select vector_store_id, file_id || '_' || place, 'Large.', embedding, metadata, file_id, place
     from embeddings, generate_series(1, $2 - 1) as place where file_id = $1`,
    [fileId, chunks],
  );
  await pool.query(
    "update pgquiver_vector_store_files set chunk_count = $2, usage_bytes = 6 * $2 where file_id = $1",
    [fileId, chunks],
  );
  await pool.query(
    "update vector_stores set embedding_count = $2 + 1, usage_bytes = 6 * $2 + 6 where id = $1",
    [storeId, chunks],
  );
  await pool.query("create table statements (number serial, operation text, rows int)");
  await pool.query(
    `create function note() returns trigger language plpgsql security definer as $$ begin
       insert into statements (operation, rows) select tg_op, count(*) from old_rows; return null; end $$`,
  );
  for (const operation of ["update", "delete"]) {
    await pool.query(
      `create trigger note_${operation} after ${operation} on embeddings referencing old table as old_rows
       for each statement execute function note()`,
    );
  }
  await client.vectorStores.files.update(fileId, { ...place, attributes: { n: 1 } });
  const { rows: changed } = await pool.query(
    "select metadata, count(*)::int as chunks from embeddings where vector_store_id = $1 group by 1 order by 2",
    [storeId],
  );
  expect(changed).toEqual([
    { metadata: {}, chunks: 1 },
    { metadata: { n: 1 }, chunks },
  ]);
  const { data } = await client.vectorStores.files.content(fileId, place);
  expect(data).toHaveLength(chunks);
  await client.vectorStores.files.delete(fileId, place);
  const { rows: statements } = await pool.query("select operation, rows from statements order by number");
  expect(statements).toEqual(
    ["UPDATE", "DELETE"].flatMap((operation) => [10_000, 10_000, 5_000].map((rows) => ({ operation, rows }))),
  );
  expect(await client.vectorStores.retrieve(storeId)).toMatchObject({ embedding_count: 1, usage_bytes: 6 });
  const { kept, counted } = await readCounters(database, storeId);
  expect(kept).toEqual(counted);
});
