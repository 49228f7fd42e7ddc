import { once } from "node:events";
import { createServer } from "node:http";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** How the server answers. Absent fields: like OpenAI's API. */
export interface Behaviour {
  /**
   * Status (default 200), body and headers to answer with, instead of embeddings. A string body is sent
   * unchanged.
   */
  status?: number;
  body?: unknown;
  headers?: Record<string, string>;
  /** Delay before the answer. */
  delayMs?: number;
  /** Promise to await before the answer. */
  until?: Promise<void>;
  /**
   * "silence": never answer. "headers": send status 200 and headers, then nothing. "cut": close the
   * connection without an answer. "cut body": close it in the middle of the body.
   */
  fault?: "silence" | "headers" | "cut" | "cut body";
  /** Dimensions of the vectors; default: the server's. */
  dimensions?: number;
  /** Encoding of the vectors; default: `encoding_format` of the request, or "float". */
  form?: "float" | "base64";
  /** Send the items in reverse order, with correct indexes. */
  shuffled?: boolean;
  /** Leave out the indexes. */
  unindexed?: boolean;
  /** Number of items to leave out, from the end. */
  missing?: number;
  /** JSON literal in place of the first number of the first vector: `null`, `1e999`, `"0.1"`. */
  firstNumber?: string;
  /** Value to send in place of the list of items. */
  data?: unknown;
}

/** A received request. */
export interface RecordedRequest {
  path: string;
  headers: IncomingHttpHeaders;
  body: { model: string; input: string[]; dimensions?: number; encoding_format?: string };
  /** Resolves when the request has ended: true if the client disconnected before it had the whole answer. */
  abandoned: Promise<boolean>;
}

/** A local server with OpenAI's `POST /embeddings`. */
export interface EmbeddingServer extends AsyncDisposable {
  /** Without a path: `http://127.0.0.1:<port>`. */
  readonly url: string;
  /** The received requests for the served paths, in order. */
  readonly requests: RecordedRequest[];
  /** The paths of all requests, in order, those that are not served included. */
  readonly paths: string[];
  /** Maximum number of concurrent requests so far. */
  readonly concurrencyMax: number;
  /** Queues a behaviour for the next `count` requests, after the behaviours queued before. */
  next(behaviour: Behaviour, count?: number): void;
  /** Sets the behaviour for all later requests for which `next` has queued none. */
  always(behaviour: Behaviour): void;
  /** Resolves when `count` requests have been received since the start. */
  received(count: number): Promise<void>;
  /** Simulates an outage: stops listening and closes open connections. */
  stop(): Promise<void>;
}

/**
 * Starts the server on a free port of 127.0.0.1:
 *
 *     await using server = await startEmbeddingServer({ dimensions: 64 });
 *     server.next({ status: 429, headers: { "retry-after": "1" } });
 *
 * Its vectors are `vectorOf(text, dimensions)`: texts with common words are near each other. The number of
 * tokens is the number of words. `dimensions`: default 8; the request's own has precedence. `paths`: the
 * served paths, by default "/v1/embeddings" and "/embeddings"; other paths get 404 in FastAPI's format.
 */
export async function startEmbeddingServer(
  options: { dimensions?: number; paths?: string[] } = {},
): Promise<EmbeddingServer> {
  const { dimensions = 8, paths: served = ["/v1/embeddings", "/embeddings"] } = options;
  const requests: RecordedRequest[] = [];
  const paths: string[] = [];
  const arranged: Behaviour[] = [];
  const arrivals = new Set<() => void>();
  let standing: Behaviour = {};
  let concurrency = 0;
  let concurrencyMax = 0;

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? "";
    const text = await readText(request);
    paths.push(path);
    if (!served.includes(path)) {
      reply(response, 404, { detail: "Not Found" });
      return;
    }
    const body = JSON.parse(text) as RecordedRequest["body"];
    const abandoned = new Promise<boolean>((resolve) => {
      response.once("close", () => {
        concurrency -= 1;
        resolve(!response.writableFinished);
      });
    });
    concurrency += 1;
    concurrencyMax = Math.max(concurrencyMax, concurrency);
    requests.push({ path, headers: request.headers, body, abandoned });
    for (const arrived of arrivals) arrived();
    await answer(response, body, dimensions, arranged.shift() ?? standing);
  }

  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) =>
      reply(response, 500, { error: { message: String(error) } }),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  async function stop(): Promise<void> {
    if (!server.listening) return;
    const closed = once(server, "close");
    server.close();
    server.closeAllConnections();
    await closed;
  }

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    paths,
    get concurrencyMax() {
      return concurrencyMax;
    },
    next(behaviour, count = 1) {
      for (let i = 0; i < count; i += 1) arranged.push(behaviour);
    },
    always(behaviour) {
      standing = behaviour;
    },
    async received(count) {
      while (requests.length < count) {
        const { promise, resolve } = Promise.withResolvers<void>();
        arrivals.add(resolve);
        await promise;
        arrivals.delete(resolve);
      }
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** The server's vector for a text: the sum of pseudo-random vectors of its words, normalised to length 1. */
export function vectorOf(text: string, dimensions: number): Float32Array {
  const vector = new Float32Array(dimensions);
  for (const word of wordsOf(text)) {
    let state = 2_166_136_261;
    for (const byte of Buffer.from(word)) state = Math.imul(state ^ byte, 16_777_619);
    for (let i = 0; i < dimensions; i += 1) {
      // The xorshift32 step of Marsaglia (2003); its state is never 0.
      state = state || 1;
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      vector[i] = (vector[i] ?? 0) + state / 2 ** 31;
    }
  }
  const norm = Math.hypot(...vector);
  return vector.map((number) => number / norm);
}

function wordsOf(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [text];
}

async function answer(
  response: ServerResponse,
  body: RecordedRequest["body"],
  dimensions: number,
  behaviour: Behaviour,
): Promise<void> {
  const { delayMs, fault, status = 200, headers } = behaviour;
  if (delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, delayMs));
  await behaviour.until;
  if (fault === "silence") return;
  if (fault === "cut") {
    response.destroy();
    return;
  }
  if (fault === undefined) {
    reply(
      response,
      status,
      "body" in behaviour ? behaviour.body : embeddingList(body, dimensions, behaviour),
      headers,
    );
    return;
  }
  response.writeHead(200, { "content-type": "application/json" });
  response.write('{"object":"list","data":[', () => {
    if (fault === "cut body") response.destroy();
  });
}

function reply(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(typeof body === "string" ? body : JSON.stringify(body));
}

/** The JSON of OpenAI's reply, modified by the behaviour. */
function embeddingList(body: RecordedRequest["body"], dimensions: number, behaviour: Behaviour): string {
  const length = behaviour.dimensions ?? body.dimensions ?? dimensions;
  const form = behaviour.form ?? body.encoding_format ?? "float";
  const data = body.input.map((text, index) => {
    const vector = vectorOf(text, length);
    const embedding = form === "base64" ? Buffer.from(vector.buffer).toString("base64") : [...vector];
    return { object: "embedding", ...(behaviour.unindexed ? {} : { index }), embedding };
  });
  if (behaviour.missing !== undefined) data.splice(-behaviour.missing);
  if (behaviour.shuffled) data.reverse();
  const tokens = body.input.reduce((sum, text) => sum + wordsOf(text).length, 0);
  const json = JSON.stringify({
    object: "list",
    data: behaviour.data ?? data,
    model: body.model,
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  });
  return behaviour.firstNumber === undefined
    ? json
    : json.replace(/(?<="embedding":\[)[^,\]]+/, behaviour.firstNumber);
}

async function readText(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}
