import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  IndexMethod,
  IndexPolicy,
  IndexSchema,
  type Index,
  type IndexService,
  type UpdateIndexRequest,
} from "../../gen/pgquiver/v1/indexes_pb.ts";
import { checkRange } from "../api/checks.ts";
import { toSeconds } from "../api/time.ts";
import { failedPrecondition, invalidArgument, vectorStoreNotFound } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Database } from "../postgres/database.ts";
import { transaction } from "../postgres/transaction.ts";
import { requireActiveStore, requireStore } from "../storage/require.ts";
import { checkPrecision, INDEX_STATES, PRECISIONS, readPrecision } from "./enums.ts";
import { lockRequest, setRequest, type IndexRequest } from "./request.ts";
import { findStatus } from "./status.ts";

/** Shows and governs the vector indexes of stores. `wake` has the worker look for work at once. */
export function indexService(database: Database, wake: () => void): ServiceImpl<typeof IndexService> {
  const { pool, tables } = database;
  const change = async (
    storeId: string,
    apply: (asked: IndexRequest) => { request: IndexRequest; rebuild: boolean },
  ): Promise<Index> => {
    await requireActiveStore(pool, tables, storeId);
    await transaction(pool, async (client) => {
      const asked = await lockRequest(client, tables, storeId);
      if (asked === undefined) throw vectorStoreNotFound(storeId);
      const { request, rebuild } = apply(asked);
      await setRequest(client, tables, storeId, request, rebuild);
    });
    wake();
    return readIndex(database, storeId);
  };
  return {
    async getIndex({ vectorStoreId }) {
      await requireStore(pool, tables, vectorStoreId);
      return readIndex(database, vectorStoreId);
    },

    async updateIndex(message) {
      const changed = readChange(message);
      return change(message.vectorStoreId, (asked) => {
        const request = { ...asked, ...changed };
        checkPrecision(request.precision, request.dimensions);
        if (request.ef_construction < 2 * request.m) {
          throw invalidArgument(
            "ef_construction",
            `Invalid 'ef_construction': expected at least twice 'm', ${2 * request.m}, but got ${request.ef_construction}.`,
          );
        }
        return { request, rebuild: false };
      });
    },

    async rebuildIndex({ vectorStoreId }) {
      return change(vectorStoreId, (request) => {
        if (request.current_index !== null) return { request, rebuild: true };
        throw failedPrecondition(
          "INDEX_MISSING",
          `Vector store '${vectorStoreId}' has no index.`,
          "vector_store_id",
        );
      });
    },
  };
}

const POLICIES = {
  auto: IndexPolicy.AUTO,
  always: IndexPolicy.ALWAYS,
  never: IndexPolicy.NEVER,
} as const;

/** Checks what is to be changed; a key that is absent is kept. */
function readChange(message: UpdateIndexRequest): Partial<IndexRequest> {
  const { m, efConstruction } = message;
  const precision = readPrecision(message.precision);
  const policy = readPolicy(message.policy);
  if (m !== undefined) checkRange("m", m, limits.index_m_min, limits.index_m_max);
  if (efConstruction !== undefined) {
    checkRange(
      "ef_construction",
      efConstruction,
      limits.index_ef_construction_min,
      limits.index_ef_construction_max,
    );
  }
  return {
    ...(policy !== undefined && { index_policy: policy }),
    ...(precision !== undefined && { precision }),
    ...(m !== undefined && { m }),
    ...(efConstruction !== undefined && { ef_construction: efConstruction }),
  };
}

function readPolicy(value: IndexPolicy | undefined): IndexRequest["index_policy"] | undefined {
  if (value === undefined || value === IndexPolicy.UNSPECIFIED) return undefined;
  for (const [policy, message] of Object.entries(POLICIES))
    if (message === value) return policy as IndexRequest["index_policy"];
  throw invalidArgument("policy", `Invalid 'policy': ${value} is no policy.`);
}

async function readIndex({ pool, tables }: Database, storeId: string): Promise<Index> {
  const status = await findStatus(pool, tables, storeId);
  if (status === undefined) throw vectorStoreNotFound(storeId);
  const { own_table: table, current_index: index, last_error: lastError, progress } = status;
  return create(IndexSchema, {
    object: "vector_store.index",
    vectorStoreId: storeId,
    policy: POLICIES[status.index_policy],
    state: INDEX_STATES[status.index_state],
    ...(progress !== null && { progress }),
    rows: BigInt(status.rows),
    indexBytes: BigInt(status.index_bytes),
    tableBytes: BigInt(status.table_bytes),
    ...(table !== null && { table }),
    ...(index !== null && {
      method: IndexMethod.HNSW,
      precision: PRECISIONS[index.precision],
      m: index.m,
      efConstruction: index.ef_construction,
    }),
    ...(index?.built_at !== undefined && { builtAt: toSeconds(new Date(index.built_at)) }),
    ...(lastError !== null && { lastError }),
  });
}
