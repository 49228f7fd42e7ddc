import type { FastifyRequest } from "fastify";
import { SearchService, type SearchResult } from "../../../gen/pgquiver/v1/search_pb.ts";
import { limits } from "../../limits.ts";
import type { Door } from "../../wire/doors/calls.ts";
import type { HttpError } from "../../wire/error.ts";
import { freeJsonLimits } from "../../wire/limits/free-json.ts";
import { BY_CALL } from "../../wire/rest/body.ts";
import { readCount, readNumber, readObject, readText, type Json } from "../json.ts";
import { toFilter } from "./conditions.ts";

/** Serves Dify's external knowledge API: `knowledge_id` is the id of a store. */
export const dify: Door = (app, { calls, requestBytesMax }) => {
  const bodyLimit = Math.min(limits.request_bytes_default, requestBytesMax);
  app.route({
    method: "POST",
    url: "/retrieval",
    bodyLimit,
    config: { scope: BY_CALL, errorBody, limits: freeJsonLimits(bodyLimit) },
    async handler(request, reply) {
      const search = readSearch(readObject(request.body));
      const { unary } = calls(request, reply, "dify");
      const { data } = await unary(SearchService.method.search, search);
      return { records: data.map(toRecord) };
    },
  });
};

function readSearch(json: Json) {
  const setting = readObject(json["retrieval_setting"], "retrieval_setting");
  const topK = readCount(setting, "top_k", limits.search_results_max, "retrieval_setting.top_k");
  const scoreThreshold = readNumber(setting, "score_threshold", "retrieval_setting.score_threshold") ?? 0;
  const filters = toFilter(json["metadata_condition"]);
  return {
    vectorStoreId: readText(json, "knowledge_id"),
    query: [readText(json, "query")],
    maxNumResults: topK ?? limits.search_results_default,
    rankingOptions: { scoreThreshold },
    ...(filters && { filters }),
  };
}

function toRecord({ fileId, filename, score, attributes, content, id }: SearchResult): Json {
  return {
    content: content.map(({ text }) => text).join("\n"),
    score,
    title: filename,
    // Dify fails on a record whose metadata is null.
    metadata: { ...attributes, file_id: fileId, chunk_id: id },
  };
}

/** Dify's codes for errors; others get their HTTP status. */
function errorBody({ status, body }: HttpError, { headers }: FastifyRequest): Json {
  return { error_code: codeOf(status, headers.authorization), error_msg: body.error.message };
}

function codeOf(status: number, authorization: string | undefined): number {
  if (status === 401) return /^Bearer +\S+ *$/i.test(authorization ?? "") ? 1002 : 1001;
  if (status === 403) return 1002;
  return status === 404 ? 2001 : status;
}
