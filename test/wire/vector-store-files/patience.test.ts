import { expect, test } from "vitest";
import { startFileService } from "../../support/servers/file-service.ts";
import { until, uploadText } from "../../support/stores/files.ts";

test("a provider that is away is waited for during a day, however often, and anew when attached again", async () => {
  const { client, database, provider } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const fileId = await uploadText(client, "Patience has an end.");
  const file = () => client.vectorStores.files.retrieve(fileId, { vector_store_id: storeId });
  const set = (assignments: string) =>
    until(async () => {
      const update = `update pgquiver_vector_store_files set ${assignments} where claim is null`;
      return (await database.pool.query(update)).rowCount === 1 ? true : undefined;
    });
  const retried = (retries: number) =>
    until(async () => {
      const { rows } = await database.pool.query<{ retries: number }>(
        "select retries from pgquiver_vector_store_files where claim is null",
      );
      return (rows[0]?.retries ?? 0) >= retries ? true : undefined;
    });
  provider.always({ status: 503, body: { error: { message: "overloaded" } } });
  await client.vectorStores.files.create(storeId, { file_id: fileId });
  await retried(1);
  await set("retries = 100000, due_at = now()");
  await retried(100_001);
  expect(await file()).toMatchObject({ status: "in_progress", last_error: null });
  const past = "waiting_since = waiting_since - interval '1 day', due_at = now()";
  await set(`retries = 1, ${past}`);
  await retried(2);
  expect(await file()).toMatchObject({ status: "in_progress", last_error: null });
  await set(`retries = 10, ${past}`);
  expect(await client.vectorStores.files.poll(storeId, fileId)).toMatchObject({
    status: "failed",
    last_error: { code: "server_error" },
  });
  await client.vectorStores.files.create(storeId, { file_id: fileId });
  await retried(1);
  expect(await file()).toMatchObject({ status: "in_progress", last_error: null });
  provider.always({});
  expect(await client.vectorStores.files.poll(storeId, fileId)).toMatchObject({ status: "completed" });
});

test("chunks that cannot be stored in the time allowed are not embedded again and again", async () => {
  const { client, database } = await startFileService();
  await database.pool.query(
    `create function refuse() returns trigger language plpgsql as
       $$ begin raise 'canceling statement due to statement timeout' using errcode = 'query_canceled'; end $$`,
  );
  await database.pool.query("create trigger refuse before insert on embeddings execute function refuse()");
  const { id: storeId } = await client.vectorStores.create({});
  const words = Array.from({ length: 60_000 }, (_, index) => `word${index}`).join(" ");
  await client.vectorStores.files.create(storeId, {
    file_id: await uploadText(client, words),
    chunking_strategy: { type: "static", static: { max_chunk_size_tokens: 100, chunk_overlap_tokens: 0 } },
  });
  const failed = await until(async () => {
    // Its pauses are not waited for.
    await database.pool.query(
      "update pgquiver_vector_store_files set due_at = now() where claim is null and due_at > now()",
    );
    const [file] = (await client.vectorStores.files.list(storeId)).data;
    return file?.status === "in_progress" ? undefined : file;
  });
  expect(failed).toMatchObject({
    status: "failed",
    last_error: { code: "server_error", message: expect.stringContaining("longer than allowed") },
  });
  const { rows } = await database.pool.query("select attempts, retries from pgquiver_vector_store_files");
  expect(rows).toEqual([{ attempts: 5, retries: 0 }]);
}, 300_000);
