import { once } from "node:events";
import { createServer } from "node:http";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";

/** A request in the shape of Cohere and Jina. */
export interface RerankRequest {
  path: string;
  headers: IncomingHttpHeaders;
  body: { model: string; query: string; documents: string[]; top_n: number };
}

/** A local server with `POST /v1/rerank`. */
export interface RerankServer extends AsyncDisposable {
  url: string;
  requests: RerankRequest[];
  /** What the server answers; undefined: nothing, ever. Default: the number of the query's words that a document has. */
  answer: (request: RerankRequest["body"]) => { status?: number; body: unknown } | undefined;
}

/** Answers with these scores, best first, as providers do. */
export function scored(scores: readonly number[]): { body: unknown } {
  const results = scores.map((relevance_score, index) => ({ index, relevance_score }));
  return { body: { id: "r", results: results.toSorted((a, b) => b.relevance_score - a.relevance_score) } };
}

function countWords({ query, documents }: RerankRequest["body"]): { body: unknown } {
  const words = query.split(" ");
  return scored(documents.map((text) => words.filter((word) => text.includes(word)).length / words.length));
}

export async function startRerankServer(): Promise<RerankServer> {
  const requests: RerankRequest[] = [];
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    const body = (await json(request)) as RerankRequest["body"];
    requests.push({ path: request.url ?? "", headers: request.headers, body });
    const answer = started.answer(body);
    if (answer === undefined) return;
    response.writeHead(answer.status ?? 200, { "content-type": "application/json" });
    response.end(JSON.stringify(answer.body));
  };
  const server = createServer((request, response) => void serve(request, response)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const started: RerankServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    answer: countWords,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return started;
}
