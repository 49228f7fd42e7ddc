import { OpenAI } from "openai";
import { expect, onTestFinished, test } from "vitest";
import { seededRandom } from "../../../scripts/crash/random.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { embedderAt } from "../../support/servers/embedder.ts";
import { startEmbeddingServer } from "../../support/servers/embedding-server.ts";
import { readCounters, until, uploadText } from "../../support/stores/files.ts";
import { startServer } from "../../support/servers/server.ts";

/** How many changes each of the clients makes; more by this variable. */
const CHANGES = Number(process.env["STORE_FILES_CHANGES"] ?? 25);
const CLIENTS = 6;
const FILES = 12;

async function start() {
  const provider = await startEmbeddingServer();
  const database = await openTestDatabase();
  const servers = [await startServer({ database, embedder: embedderAt(provider.url) })];
  // Two processes would have a connection each; the embedded database has but one.
  if (database.kind === "postgres")
    servers.push(await startServer({ database, embedder: embedderAt(provider.url) }));
  onTestFinished(async () => {
    for (const server of servers) await server[Symbol.asyncDispose]();
    await provider.stop();
    await database.close();
  });
  const clients = servers.map(
    ({ url }) => new OpenAI({ apiKey: "any", baseURL: `${url}/v1`, maxRetries: 0 }),
  );
  return { provider, database, clients };
}

test("counts and chunks are right after any mix of changes at the same time", async () => {
  const { database, clients, provider } = await start();
  const [first] = clients as [OpenAI];
  const stores = [(await first.vectorStores.create({})).id, (await first.vectorStores.create({})).id];
  const fileIds: string[] = [];
  for (let index = 0; index < FILES; index++)
    fileIds.push(await uploadText(first, `Text ${index}. `.repeat(1 + 40 * (index % 4))));
  const batches: { id: string; vector_store_id: string }[] = [];

  async function change(client: OpenAI, random: ReturnType<typeof seededRandom>): Promise<unknown> {
    const storeId = random.pick(stores);
    const fileId = random.pick(fileIds);
    const place = { vector_store_id: storeId };
    const { files, fileBatches } = client.vectorStores;
    switch (random.integer(0, 10)) {
      case 0:
      case 1:
        return files.create(storeId, { file_id: fileId, attributes: { n: random.integer(0, 3) } });
      case 2:
      case 3: {
        const file_ids = fileIds.filter(() => random.chance(0.5));
        return file_ids.length > 0 && batches.push(await fileBatches.create(storeId, { file_ids }));
      }
      case 4: {
        const batch = batches.length === 0 ? undefined : random.pick(batches);
        return batch && fileBatches.cancel(batch.id, { vector_store_id: batch.vector_store_id });
      }
      case 5:
        return files.delete(fileId, place);
      case 6:
        return files.update(fileId, { ...place, attributes: { n: random.integer(0, 3) } });
      case 7:
      case 8:
        return client
          .post(`/vector_stores/${storeId}/files/${fileId}/replace`, {
            body: { new_file_id: random.pick(fileIds) },
          })
          .catch((error: unknown) => {
            // Not completed just now, or the other file is attached already.
            if (!(error instanceof OpenAI.BadRequestError || error instanceof OpenAI.ConflictError))
              throw error;
          });
      case 9:
        return client.post(`/vector_stores/${storeId}/embeddings/purge`, {
          body: { filters: { type: "eq", key: "n", value: random.integer(0, 3) } },
        });
      default:
        return client.post(`/vector_stores/${storeId}/embeddings`, {
          body: { content: "Added directly.", metadata: { n: random.integer(0, 3) } },
        });
    }
  }

  // Some requests of the provider fail, so that files are given back.
  const faults = setInterval(() => provider.next({ status: 503, body: {} }), 500);
  await Promise.all(
    Array.from({ length: CLIENTS }, async (_, number) => {
      const random = seededRandom(7, number);
      for (let count = 0; count < CHANGES; count++) {
        await change(clients[number % clients.length] as OpenAI, random).catch((error: unknown) => {
          // A file that is not attached just now.
          if (!(error instanceof OpenAI.NotFoundError) && !/provider/.test(String(error))) throw error;
        });
      }
    }),
  );
  clearInterval(faults);
  for (const storeId of stores) {
    await until(async () => {
      const store = await first.vectorStores.retrieve(storeId);
      return store.status === "completed" ? true : undefined;
    });
    const { kept, counted } = await readCounters(database, storeId);
    expect(kept).toEqual(counted);
  }
  // A chunk is of a file that is completed, has its attributes, and is there once.
  const { rows } = await database.pool.query(
    `select chunk.id from embeddings as chunk left join pgquiver_vector_store_files as file using (vector_store_id, file_id)
     where chunk.file_id is not null and not coalesce(
       file.status = 'completed' and chunk.metadata = coalesce(file.attributes, '{}')
       and chunk_index < chunk_count and chunk.id = file_id || '_' || chunk_index, false)`,
  );
  expect(rows).toEqual([]);
}, 300_000);
