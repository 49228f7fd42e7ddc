import { setTimeout as sleep } from "node:timers/promises";
import { connectGrpc } from "../support/clients.ts";
import type { BenchDatabase } from "../support/database.ts";
import { encodeMessage, sendIngest } from "../support/ingest.ts";
import { startServer } from "../support/server.ts";
import { buildIndex, call, declareAttribute, deleteStore } from "../support/store.ts";
import { backendsCpuMs, treeCpuMs } from "./cpu.ts";
import { cut, RESULTS, type Peer, type Query, type Row } from "./peer.ts";

/** Rows of a message of the ingest stream. */
const BATCH = 100;
/** The default precision of an index at these dimensions. */
const PRECISION = "float16";
const POLL_MS = 20;

/** pgquiver, with what only its contender with a declared attribute needs. */
export interface Pgquiver extends Peer {
  /** Declares `position` as an indexed attribute, and waits until its index is ready. */
  declarePosition(collection: string): Promise<void>;
}

/**
 * Starts the service with production settings. Rows and searches go over gRPC, by grpc-js and protobufjs; what changes
 * a store or its index over JSON. WORKERS of the environment is handed on.
 */
export async function startPgquiver(
  database: BenchDatabase,
  dimensions: number,
  stack: AsyncDisposableStack,
): Promise<Pgquiver> {
  const workers = process.env["WORKERS"] ?? "1";
  const server = stack.use(await startServer(database.url, { WORKERS: workers }));
  const grpc = stack.use(connectGrpc(server));
  const efs = new Map<string, number>();
  const send = async (rpc: string, message: object) =>
    grpc.decode(rpc, await grpc.send(rpc, grpc.encode(rpc, message)));
  const setPolicy = (id: string, policy: string) =>
    call(server, "POST", `/v1/vector_stores/${id}/index`, { policy });

  async function awaitState(id: string, state: string): Promise<void> {
    for (;;) {
      const index = await call(server, "GET", `/v1/vector_stores/${id}/index`);
      if (index["state"] === state) return;
      await sleep(POLL_MS);
    }
  }

  const peer: Pgquiver = {
    name: "pgquiver",
    settings: `HNSW of ${PRECISION} beside float32 rows, m 16, ef_construction 128; WORKERS=${workers}`,
    cpuMs: () => treeCpuMs(server.pid) + backendsCpuMs(database.url),
    // As docs/indexes.md advises before a load into a new store: the table is the store's own from the beginning.
    async createCollection(id) {
      await call(server, "POST", "/v1/vector_stores", { id, dimensions });
      await setPolicy(id, "always");
      await awaitState(id, "ready");
      await setPolicy(id, "never");
      await awaitState(id, "none");
    },
    dropCollection: (id) => deleteStore(server, id),
    prepareLoad(id, rows) {
      const messages = cut(rows, BATCH).map((batch, number) => encodeBatch(batch, number + 1));
      return async () => {
        const summary = await sendIngest(server, { vectorStoreId: id }, messages);
        if (summary.rowsWritten !== BigInt(rows.length))
          throw new Error(`${summary.rowsWritten} rows were written.`);
      };
    },
    async awaitIndex(id) {
      await buildIndex(server, id, PRECISION);
    },
    async setEf(id, ef) {
      efs.set(id, ef);
    },
    async search(id, query) {
      const ef = efs.get(id);
      const message = { ...toSearch(id, query), ...(ef !== undefined && { ef_search: ef }) };
      const { data = [] } = (await send("SearchService/Search", message)) as { data?: { id: string }[] };
      return data.map(({ id: found }) => found);
    },
    async insert(id, row) {
      await send("EmbeddingService/CreateEmbedding", toInsertion(id, row));
    },
    async delete(id, row) {
      await send("EmbeddingService/DeleteEmbedding", { vector_store_id: id, embedding_id: row });
    },
    async deleteFrom(id, position) {
      const filters = { type: "FILTER_TYPE_GTE", key: "position", value: { numberValue: position } };
      await send("EmbeddingService/PurgeEmbeddings", { vector_store_id: id, filters });
    },
    async createTenants(groups) {
      for (const [number, rows] of groups.entries()) {
        await call(server, "POST", "/v1/vector_stores", { id: tenantOf(number) });
        await peer.prepareLoad(tenantOf(number), rows)();
      }
    },
    searchTenant: (number, query) => peer.search(tenantOf(number), query),
    async declarePosition(id) {
      await declareAttribute(server, id, { key: "position", type: "number" });
    },
  };
  return peer;
}

function encodeBatch(rows: readonly Row[], seq: number): Buffer {
  const inputs = rows.map(({ id, content, position, vector }) => ({
    id,
    content,
    embedding: [...vector],
    metadata: { position },
  }));
  return encodeMessage({ case: "batch", value: { seq: BigInt(seq), rows: inputs } });
}

/** The id of the small store with this number. */
export function tenantOf(number: number): string {
  return `tenant_${number}`;
}

/** A message that adds a row to a store. */
export function toInsertion(id: string, { position, vector, ...row }: Row): object {
  const metadata = { fields: { position: { numberValue: position } } };
  const embedding = { id: row.id, content: row.content, embedding: [...vector], metadata };
  return { vector_store_id: id, embedding };
}

/** A message that searches a store. */
export function toSearch(id: string, { vector, below }: Query): object {
  return {
    vector_store_id: id,
    embedding: [...vector],
    max_num_results: RESULTS,
    ...(below !== undefined && {
      filters: { type: "FILTER_TYPE_LT", key: "position", value: { numberValue: below } },
    }),
  };
}
