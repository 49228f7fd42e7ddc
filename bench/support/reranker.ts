import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";

/** What a reranking model is asked. */
interface Request {
  query: string;
  documents: string[];
}

/** Starts a server with Cohere's `POST /v1/rerank`, whose model is `score`: the score of each document. */
export async function startReranker(
  score: (query: string, documents: readonly string[]) => number[],
): Promise<AsyncDisposable & { url: string }> {
  const server = createServer((request, response) => {
    void json(request).then((body) => {
      const { query, documents } = body as Request;
      const results = score(query, documents).map((relevance_score, index) => ({ index, relevance_score }));
      response.setHeader("content-type", "application/json");
      response.end(
        JSON.stringify({ results: results.toSorted((a, b) => b.relevance_score - a.relevance_score) }),
      );
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
