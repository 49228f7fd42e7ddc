import OpenAI from "openai";
import { expect, inject, onTestFinished, test } from "vitest";
import { IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { isWatch } from "../../../src/api/scope.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { services } from "../../support/clients/dialect.ts";
import { uploadText } from "../../support/stores/files.ts";
import { grpcByGrpcJs } from "../../support/clients/grpc-client.ts";
import { jsonClient, type Json } from "../../support/clients/json.ts";
import { start } from "../../support/servers/process.ts";

/** More connections than workers, so that each worker serves some. */
const WATCHERS = 6;

/** A service of two workers, on Postgres. */
async function serve() {
  const database = await openTestDatabase();
  onTestFinished(() => database.close());
  const service = start({ DATABASE_URL: String(database.url), PORT: "0", WORKERS: "2" });
  onTestFinished(async () => {
    service.child.kill("SIGTERM");
    await service.ended;
  });
  const url = String(/http:\S+/.exec(await service.said(/^Listening/))?.[0]);
  await service.said(/^Ready$/);
  const send = jsonClient(url);
  const ask = async (path: string, body: unknown): Promise<Json> => {
    const { status, json } = await send("POST", `/v1/${path}`, body);
    expect(status, JSON.stringify(json)).toBe(200);
    return json;
  };
  return { database, url, ask, openai: new OpenAI({ apiKey: "any", baseURL: `${url}/v1`, maxRetries: 0 }) };
}

type Service = Awaited<ReturnType<typeof serve>>;

/** Something that is watched. */
interface Watched {
  request: Json;
  /** Makes it come to its end. */
  finish: () => Promise<unknown>;
  /** Its last state. */
  last: Json;
}

async function fillStore({ ask }: Service): Promise<string> {
  const { id } = await ask("vector_stores", {});
  const embeddings = Array.from({ length: 50 }, (_, n) => ({ content: `row ${n}`, embedding: [n, 1] }));
  await ask(`vector_stores/${String(id)}/embeddings/batch`, { embeddings });
  return String(id);
}

async function watchIngest({ database: { pool }, ask }: Service): Promise<Watched> {
  const { id: vector_store_id } = await ask("vector_stores", {});
  const insert =
    "insert into pgquiver_ingests (vector_store_id, ingest_id, parameters) values ($1, 'load', '{}')";
  await pool.query(insert, [vector_store_id]);
  const end = "update pgquiver_ingests set rows_written = 7, state = 'completed' where vector_store_id = $1";
  return {
    request: { vector_store_id, ingest_id: "load" },
    finish: () => pool.query(end, [vector_store_id]),
    last: { state: "INGEST_STATE_COMPLETED", rows_written: 7 },
  };
}

async function watchIndex(service: Service): Promise<Watched> {
  const vector_store_id = await fillStore(service);
  const path = `vector_stores/${vector_store_id}/index`;
  await service.ask(path, { policy: "always" });
  return {
    request: { vector_store_id },
    finish: () => service.ask(path, { target_recall: 0.9 }),
    last: { state: "INDEX_STATE_READY", rows: 50 },
  };
}

async function watchReembedding(service: Service): Promise<Watched> {
  const vector_store_id = await fillStore(service);
  await service.ask(`vector_stores/${vector_store_id}/reembedding`, {});
  return {
    request: { vector_store_id },
    finish: async () => undefined,
    last: { status: "REEMBEDDING_STATUS_COMPLETED", rows_embedded: 50 },
  };
}

async function watchFile({ openai }: Service): Promise<Watched> {
  const { id: vector_store_id } = await openai.vectorStores.create({});
  const file_id = await uploadText(openai, "A text about herons.");
  await openai.vectorStores.files.create(vector_store_id, { file_id });
  return {
    request: { vector_store_id, file_id },
    finish: async () => undefined,
    last: { status: "VECTOR_STORE_FILE_STATUS_COMPLETED" },
  };
}

async function watchFileBatch({ openai }: Service): Promise<Watched> {
  const { id: vector_store_id } = await openai.vectorStores.create({});
  const file_ids = [await uploadText(openai, "Herons."), await uploadText(openai, "Storks.")];
  const { id: batch_id } = await openai.vectorStores.fileBatches.create(vector_store_id, { file_ids });
  return {
    request: { vector_store_id, batch_id },
    finish: async () => undefined,
    last: { file_counts: expect.objectContaining({ completed: 2, in_progress: 0 }) },
  };
}

const WATCHES = {
  "VectorStoreService/WatchVectorStoreReembedding": watchReembedding,
  "VectorStoreFileService/WatchVectorStoreFile": watchFile,
  "VectorStoreFileService/WatchVectorStoreFileBatch": watchFileBatch,
  "IndexService/WatchIndex": watchIndex,
  "IngestService/WatchIngest": watchIngest,
};

test.skipIf(inject("template").kind === "embedded")(
  "each Watch RPC tells grpc-js the same end, whichever of two workers it asks (runs on Postgres)",
  async () => {
    const methods = [...services, IngestService].flatMap((service) => service.methods);
    const watching = methods.filter((method) => isWatch(method));
    const names = watching.map(({ parent, name }) => `${parent.name}/${name}`);
    expect(Object.keys(WATCHES).toSorted()).toEqual(names.toSorted());
    const service = await serve();
    // Otherwise grpc-js would share one connection among the clients.
    const options = { "grpc.use_local_subchannel_pool": 1 };
    const server = { url: service.url, address: service.url.slice("http://".length) };
    const clients = Array.from({ length: WATCHERS }, () => grpcByGrpcJs.connect(server, options));
    onTestFinished(async () => {
      for (const client of clients) await client[Symbol.asyncDispose]();
    });
    for (const [rpc, prepare] of Object.entries(WATCHES)) {
      const { request, finish, last } = await prepare(service);
      const open = clients.map((client) => client.stream(rpc, request)[Symbol.asyncIterator]());
      const states = await Promise.all(open.map(async (one) => [(await one.next()).value as Json]));
      await finish();
      await Promise.all(
        open.map(async (one, index) => {
          for (let next = await one.next(); next.done !== true; next = await one.next())
            states[index]?.push(next.value);
        }),
      );
      for (const seen of states) expect(seen.at(-1), rpc).toMatchObject(last);
    }
  },
);
