import { toFile } from "openai";
import { expect, test } from "vitest";
import { readConfig } from "../../../src/config.ts";
import { makeSlowPdf } from "../../support/stores/documents.ts";
import { startFileService } from "../../support/servers/file-service.ts";
import { until, uploadText } from "../../support/stores/files.ts";

test("large files that take all workers do not delay another store's small file", async () => {
  const { client, database } = await startFileService();
  const { workers } = readConfig({}).files;
  const greedy = await client.vectorStores.create({});
  const other = await client.vectorStores.create({});
  // Larger than 1 MiB by what follows the end of the PDF.
  const large = Buffer.concat([makeSlowPdf(), Buffer.alloc(1_100_000, "\n")]);
  for (let count = 0; count < workers + 2; count++) {
    const file = await client.files.create({ file: await toFile(large, "a.pdf"), purpose: "assistants" });
    await client.vectorStores.files.create(greedy.id, { file_id: file.id });
  }
  await until(async () => {
    const { rowCount } = await database.pool.query(
      "select from pgquiver_vector_store_files where claim is not null",
    );
    return rowCount === workers ? true : undefined;
  });
  const small = await uploadText(client, "A small file.");
  expect(await client.vectorStores.files.createAndPoll(other.id, { file_id: small })).toMatchObject({
    status: "completed",
  });
  const { file_counts: counts } = await client.vectorStores.retrieve(greedy.id);
  expect(counts).toMatchObject({ in_progress: workers + 2, failed: 0 });
});
