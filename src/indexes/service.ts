import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import type pg from "pg";
import {
  IndexMethod,
  IndexPolicy,
  IndexState,
  IndexSchema,
  Precision,
  type Index,
  type IndexService,
  type UpdateIndexRequest,
} from "../../gen/pgquiver/v1/indexes_pb.ts";
import { checkRange } from "../api/checks.ts";
import { toSeconds } from "../api/time.ts";
import { readUpdateMask } from "../api/update-mask.ts";
import { failedPrecondition, invalidArgument, vectorStoreNotFound } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Database } from "../postgres/database.ts";
import { findBlockersOf } from "../postgres/horizon.ts";
import { isDistributed } from "../postgres/citus/cluster.ts";
import { onNodes, type NodePool } from "../postgres/citus/node-watch.ts";
import { asService } from "../postgres/row-security/call.ts";
import { cancellable, transaction } from "../postgres/transaction.ts";
import { Pace } from "../api/watching/pace.ts";
import type { Watches } from "../api/watching/watches.ts";
import { requireActiveStore, requireStore } from "../storage/require.ts";
import { checkPrecision, INDEX_STATES, PRECISIONS, readPrecision } from "./enums.ts";
import {
  measureWork,
  readAttributes,
  readTargetRecall,
  toAttributeIndexes,
  toRecall,
  toWork,
} from "./message.ts";
import { lockRequest, setRequest, type IndexRequest } from "./request.ts";
import { addShards } from "./shards.ts";
import { findStatus, type IndexStatus } from "./status.ts";
import { localId } from "../store-id.ts";

/** Implements IndexService. `wake` makes the index worker poll at once after a change. */
export function indexService(
  database: Database,
  wake: () => void,
  watches: Watches,
): ServiceImpl<typeof IndexService> {
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
    return (await readIndex(database, storeId)).index;
  };
  return {
    async getIndex({ vectorStoreId }) {
      await requireStore(pool, tables, vectorStoreId);
      return (await readIndex(database, vectorStoreId)).index;
    },

    watchIndex: watchIndex(database, watches),

    async updateIndex(message) {
      const changed = readChange(message);
      return change(message.vectorStoreId, (asked) => {
        const request = { ...asked, ...changed };
        checkPrecision(request.precision, request.dimensions);
        if (asked.own_table !== null && request.keyword_index !== asked.keyword_index) {
          throw failedPrecondition(
            "TABLE_EXISTS",
            `Vector store '${message.vectorStoreId}' has its own table, so its 'keyword_index' cannot be changed.`,
            "keyword_index",
          );
        }
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
          `Vector store '${localId(vectorStoreId)}' has no index.`,
          "vector_store_id",
        );
      });
    },
  };
}

function watchIndex(database: Database, watches: Watches): ServiceImpl<typeof IndexService>["watchIndex"] {
  const { pool, tables } = database;
  return async function* ({ vectorStoreId }, context) {
    const pace = new Pace();
    const read = async () => {
      await requireStore(pool, tables, vectorStoreId);
      const { index, isDue } = await readIndex(database, vectorStoreId);
      const isFinal = index.lastError !== undefined || (RESTING.has(index.state) && !isDue);
      return { state: measureWork(index, pace), isFinal };
    };
    yield* watches.watch({ desc: IndexSchema, key: vectorStoreId, read }, context);
  };
}

/** States in which nothing is being done. */
const RESTING: ReadonlySet<IndexState> = new Set([IndexState.NONE, IndexState.READY]);

const POLICIES = {
  auto: IndexPolicy.AUTO,
  always: IndexPolicy.ALWAYS,
  never: IndexPolicy.NEVER,
} as const;

/**
 * Validates an UpdateIndexRequest and returns the fields that its update mask names. A field that is in the
 * mask but unset is reset to its default.
 */
function readChange(message: UpdateIndexRequest): Partial<IndexRequest> {
  const fields = readUpdateMask(message.updateMask, {
    policy: (message.policy ?? IndexPolicy.UNSPECIFIED) !== IndexPolicy.UNSPECIFIED,
    precision: (message.precision ?? Precision.UNSPECIFIED) !== Precision.UNSPECIFIED,
    m: message.m !== undefined,
    ef_construction: message.efConstruction !== undefined,
    indexed_attributes: message.indexedAttributes.length > 0,
    target_recall: message.targetRecall !== undefined,
    keyword_index: message.keywordIndex !== undefined,
  });
  const {
    index_m_default: mDefault,
    index_m_min: mMin,
    index_m_max: mMax,
    index_ef_construction_default: efDefault,
    index_ef_construction_min: efMin,
    index_ef_construction_max: efMax,
  } = limits;
  const { m = mDefault, efConstruction = efDefault } = message;
  const precision = readPrecision(message.precision) ?? null;
  const policy = readPolicy(message.policy) ?? "auto";
  if (fields.has("m")) checkRange("m", m, mMin, mMax);
  if (fields.has("ef_construction")) checkRange("ef_construction", efConstruction, efMin, efMax);
  return {
    ...(fields.has("policy") && { index_policy: policy }),
    ...(fields.has("precision") && { precision }),
    ...(fields.has("m") && { m }),
    ...(fields.has("ef_construction") && { ef_construction: efConstruction }),
    ...(fields.has("indexed_attributes") && { attributes: readAttributes(message.indexedAttributes) }),
    ...(fields.has("target_recall") && { target_recall: readTargetRecall(message.targetRecall) }),
    ...(fields.has("keyword_index") && { keyword_index: message.keywordIndex ?? true }),
  };
}

function readPolicy(value: IndexPolicy | undefined): IndexRequest["index_policy"] | undefined {
  if (value === undefined || value === IndexPolicy.UNSPECIFIED) return undefined;
  for (const [policy, message] of Object.entries(POLICIES))
    if (message === value) return policy as IndexRequest["index_policy"];
  throw invalidArgument("policy", `Invalid 'policy': ${value} is not a policy.`);
}

/** Reads the state of the index of a store that the caller was seen to have. */
async function readIndex(database: Database, storeId: string): Promise<{ index: Index; isDue: boolean }> {
  const { pool, tables } = database;
  // Postgres shows the progress of a build, and what blocks it, to the role that builds only.
  const { status, blockers } = await asService(async () => {
    let found = await findStatus(pool, tables, storeId);
    if (found !== undefined && (await isDistributed(pool, database, found.own_table)))
      found = await readShards(pool, found);
    const pid = found?.waiting_pid ?? null;
    return { status: found, blockers: pid === null ? [] : await findBlockersOf(pool, pid) };
  });
  if (status === undefined) throw vectorStoreNotFound(storeId);
  const { own_table: table, current_index: current, last_error: lastError, progress } = status;
  const index = create(IndexSchema, {
    object: "vector_store.index",
    vectorStoreId: storeId,
    policy: POLICIES[status.index_policy],
    state: INDEX_STATES[status.index_state],
    ...(progress !== null && { progress }),
    ...toWork(status),
    rows: BigInt(status.rows),
    indexBytes: BigInt(status.index_bytes),
    tableBytes: BigInt(status.table_bytes),
    otherIndexBytes: BigInt(status.other_index_bytes),
    ...toBytesPerRow(status),
    ...(table !== null && { table }),
    ...(current !== null && {
      method: IndexMethod.HNSW,
      precision: PRECISIONS[current.precision],
      m: current.m,
      efConstruction: current.ef_construction,
    }),
    ...(current?.built_at !== undefined && { builtAt: toSeconds(new Date(current.built_at)) }),
    ...(lastError !== null && { lastError }),
    requested: {
      ...(status.requested_precision !== null && { precision: PRECISIONS[status.requested_precision] }),
      m: status.requested_m,
      efConstruction: status.requested_ef_construction,
    },
    attributeIndexes: toAttributeIndexes(status),
    ...toRecall(status),
    keywordIndex: status.keyword_index,
    nodes: status.nodes.map(({ bytes, ...node }) => ({ ...node, bytes: BigInt(bytes) })),
    blockedBy: blockers.map(({ pid, name, role, state, age_seconds: ageSeconds }) => ({
      name,
      ...(pid !== null && { pid }),
      ...(role !== null && { role }),
      ...(state !== null && { state }),
      ...(ageSeconds !== null && { ageSeconds }),
    })),
  });
  return { index, isDue: status.is_due };
}

/** As `addShards`; DATABASE_UNAVAILABLE also when a node is silent. */
async function readShards(pool: pg.Pool & NodePool, status: IndexStatus): Promise<IndexStatus> {
  const unlimited = new AbortController().signal;
  return onNodes(pool, status.own_table, unlimited, (signal) =>
    cancellable(pool, signal, (client) => addShards(client, status)),
  );
}

/** The field `bytes_per_row`, where a table is the store's own. */
function toBytesPerRow({ own_table: table, rows, index_bytes, table_bytes }: IndexStatus): {
  bytesPerRow?: number;
} {
  const count = Number(rows);
  if (table === null || count === 0) return {};
  return { bytesPerRow: Math.round((Number(index_bytes) + Number(table_bytes)) / count) };
}
