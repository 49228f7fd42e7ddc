import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  GetEmbeddingsUsageResponseSchema,
  GetVectorStoresUsageResponseSchema,
  type UsageService,
} from "../../gen/pgquiver/v1/usage_pb.ts";
import { principal } from "../api/principal.ts";
import type { Database } from "../postgres/database.ts";
import type { UsageRecorder } from "./recorder.ts";
import { DAY_SECONDS, readDays, readGroups, readProjects, toDay, writePage, type Days } from "./request.ts";
import { sumStores } from "./stores.ts";
import { sumTokens, TOKEN_GROUPS } from "./tokens.ts";

/** Implements UsageService. */
export function usageService(
  { pool, tables }: Database,
  recorder: UsageRecorder,
): ServiceImpl<typeof UsageService> {
  return {
    async getEmbeddingsUsage(request, { values }) {
      const days = readDays(request);
      const groupBy = readGroups(request.groupBy, TOKEN_GROUPS);
      const projects = readProjects(values.get(principal), request.projectIds);
      await recorder.flush();
      const only = { project_id: projects ?? [], api_key_id: request.apiKeyIds, model: request.models };
      const sums = projects === undefined ? [] : await sumTokens(pool, tables, { ...days, groupBy, only });
      const results = sums.map((sum) => ({
        object: "organization.usage.embeddings.result",
        inputTokens: BigInt(sum.input_tokens),
        numModelRequests: BigInt(sum.requests),
        ...(sum.project_id !== undefined && { projectId: sum.project_id }),
        ...(sum.api_key_id !== undefined && { apiKeyId: sum.api_key_id }),
        ...(sum.model !== undefined && { model: sum.model }),
      }));
      return create(GetEmbeddingsUsageResponseSchema, toPage(days, sums, results));
    },

    async getVectorStoresUsage(request, { values }) {
      const days = readDays(request);
      const isByProject = readGroups(request.groupBy, ["project_id"]).length > 0;
      const projects = readProjects(values.get(principal), request.projectIds);
      const sums =
        projects === undefined ? [] : await sumStores(pool, tables, { ...days, projects, isByProject });
      const results = sums.map((sum) => ({
        object: "organization.usage.vector_stores.result",
        usageBytes: BigInt(sum.usage_bytes),
        ...(sum.project_id !== undefined && { projectId: sum.project_id }),
      }));
      return create(GetVectorStoresUsageResponseSchema, toPage(days, sums, results));
    },
  };
}

/** Sorts results, each that of a sum, into the buckets of their days. */
function toPage<Result>(
  { starts, next }: Days,
  sums: readonly { day: string }[],
  results: readonly Result[],
) {
  return {
    object: "page",
    data: starts.map((start) => ({
      object: "bucket",
      startTime: BigInt(start),
      endTime: BigInt(start + DAY_SECONDS),
      results: results.filter((_, index) => sums[index]?.day === toDay(start)),
    })),
    hasMore: next !== undefined,
    ...(next !== undefined && { nextPage: writePage(next) }),
  };
}
