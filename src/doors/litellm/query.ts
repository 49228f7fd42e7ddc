import { randomUUID } from "node:crypto";
import {
  SearchResponseSchema,
  SearchService,
  type SearchResponse,
} from "../../../gen/pgquiver/v1/search_pb.ts";
import { invalidArgument, missingParameter } from "../../errors.ts";
import { limits } from "../../limits.ts";
import type { Calls } from "../../wire/doors/calls.ts";
import { writeMessage } from "../../wire/rest/json-writer.ts";
import { isObject } from "../../wire/rest/json-reader.ts";
import { readCount, readObject, readText, type Json } from "../json.ts";

/**
 * Searches for the last message of a chat. The service has no language model: in place of an answer the reply has the
 * context that LiteLLM would put before the messages, and the results where LiteLLM adds them.
 */
export async function query({ unary }: Calls, json: Json): Promise<Json> {
  const model = readText(json, "model");
  const text = lastText(json["messages"]);
  const retrieval = readObject(json["retrieval_config"], "retrieval_config");
  const vectorStoreId = readText(retrieval, "vector_store_id", "retrieval_config.vector_store_id");
  if (json["stream"] === true)
    throw invalidArgument("stream", "Unsupported 'stream': the reply is the context, not generated text.");
  const topK = readCount(retrieval, "top_k", limits.search_results_max, "retrieval_config.top_k");
  const { ranker, count } = readRerank(readObject(json["rerank"], "rerank"), topK);
  const page = await unary(SearchService.method.search, {
    vectorStoreId,
    query: [text],
    maxNumResults: count ?? limits.search_results_default,
    rankingOptions: { ranker },
  });
  return toCompletion(model, page);
}

/** LiteLLM reranks on request only: `top_k` results are found, and `top_n` of them are left. */
function readRerank(rerank: Json, topK: number | undefined): { ranker: string; count: number | undefined } {
  if (rerank["enabled"] !== true) return { ranker: "none", count: topK };
  const topN = readCount(rerank, "top_n", limits.search_results_max, "rerank.top_n");
  const model = rerank["model"] ?? undefined;
  return {
    ranker: model === undefined ? "auto" : readText(rerank, "model", "rerank.model"),
    count: topN === undefined ? topK : Math.min(topN, topK ?? topN),
  };
}

/** The text of the last message, of whose parts the first text counts. */
function lastText(messages: unknown): string {
  if (!Array.isArray(messages) || messages.length === 0) throw missingParameter("messages");
  const content = readObject(messages.at(-1), "messages")["content"];
  if (typeof content === "string" && content !== "") return content;
  const parts: unknown[] = Array.isArray(content) ? content : [];
  for (const part of parts) {
    if (isObject(part) && part["type"] === "text" && typeof part["text"] === "string") return part["text"];
  }
  throw invalidArgument("messages", "Invalid 'messages': the last message has no text to search for.");
}

function toCompletion(model: string, page: SearchResponse): Json {
  const texts = page.data.flatMap(({ content }) => content.map(({ text }) => `${text}\n\n`));
  const tokens = Number(page.usage?.totalTokens ?? 0);
  const message = {
    role: "assistant",
    content: `Context:\n\n${texts.join("")}`,
    provider_specific_fields: { search_results: writeMessage(SearchResponseSchema, page) },
  };
  return {
    id: `chatcmpl-${randomUUID()}`,
    object: "chat.completion",
    created: Math.floor(Date.now() / 1000),
    model,
    choices: [{ index: 0, message, finish_reason: "stop" }],
    usage: { prompt_tokens: tokens, completion_tokens: 0, total_tokens: tokens },
  };
}
