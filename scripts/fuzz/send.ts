import { once } from "node:events";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { connect as connectHttp2, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { connect as connectSocket } from "node:net";
import type { Readable } from "node:stream";
import type { Random } from "../crash/random.ts";
import { mutateBytes } from "./mutate.ts";
import type { HttpRequest } from "./request.ts";

/** How a request ended. */
export interface Outcome {
  /** HTTP status; 0: the caller hung up, or the connection was closed before an answer. */
  status: number;
  /** Status of gRPC in headers or trailers, or of an error in the envelope of Connect's streams and gRPC-Web. */
  code: string | undefined;
  /** The first bytes of the reply. */
  text: string;
  /** What went wrong with the connection, or a timeout. */
  problem?: string;
  /** Whether the request says how long it may take. */
  hasDeadline?: boolean;
}

/** How far a request has come, to be named when no answer arrives. */
interface Progress {
  stage: string;
}

/** Longer than any of these small requests takes on a busy machine. */
const HANG_MS = 20_000;
/** A watch goes on for as long as what it watches is not over: its caller leaves. */
const WATCH_MS = 1_000;
/** Node's client does not send headers of more than 64 KiB over HTTP/2. */
const HTTP2_PATH_CHARS_MAX = 60_000;
/** With a longer path the headers are larger than the service takes (`headerBytesMax` of a port, 16 KiB). */
const ACCEPTED_PATH_CHARS_MAX = 15_000;
const TEXT_CHARS_MAX = 2_000;
const NOTHING: Outcome = { status: 0, code: undefined, text: "" };

/** Sends requests over kept connections: HTTP/1.1, HTTP/2, and single sockets for broken HTTP/1.1. */
export class Sender implements Disposable {
  readonly #address: string;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 64 });
  #session: ClientHttp2Session | undefined;

  constructor(address: string) {
    this.#address = address;
  }

  /** Sends a request over a protocol drawn at random; now and then hangs up early. Never rejects. */
  async send(request: HttpRequest, random: Random): Promise<Outcome> {
    const hangsUp = request.isMutated && random.chance(0.03);
    const progress = { stage: "" };
    const sent =
      request.protocol === "gRPC" || (random.chance(0.5) && request.path.length <= HTTP2_PATH_CHARS_MAX)
        ? this.#sendHttp2(request, hangsUp, progress)
        : request.isMutated && random.chance(0.1)
          ? this.#sendRaw(request, random, progress)
          : this.#sendHttp1(request, hangsUp, progress);
    let outcome = await withDeadline(sent, progress).catch(toOutcome);
    if (hangsUp) return NOTHING;
    // The request crossed the GOAWAY of a session that has come of age: nothing was done, and a client sends it again
    // (RFC 9113, 8.7).
    if (outcome.problem?.includes("NGHTTP2_REFUSED_STREAM") === true)
      outcome = await withDeadline(this.#sendHttp2(request, false, progress), progress).catch(toOutcome);
    // How Node refuses headers that are too large over HTTP/2, where HTTP/1.1 has status 431.
    const isTooLarge = request.path.length > ACCEPTED_PATH_CHARS_MAX;
    if (isTooLarge && outcome.problem?.includes("NGHTTP2_ENHANCE_YOUR_CALM") === true)
      outcome = { ...NOTHING, status: 431 };
    return { ...outcome, hasDeadline: "connect-timeout-ms" in request.headers };
  }

  async #sendHttp1(
    { rpc, verb, path, headers, body }: HttpRequest,
    hangsUp: boolean,
    progress: Progress,
  ): Promise<Outcome> {
    progress.stage = "HTTP/1.1, waits for a socket";
    const [host, port] = this.#address.split(":");
    const hasBody = body.length > 0;
    const sent = httpRequest({
      host,
      port,
      method: verb,
      path: printable(path),
      headers: { ...printableValues(headers), ...(hasBody && { "content-length": body.length }) },
      agent: this.#agent,
      ...(hangsUp && { signal: AbortSignal.timeout(5) }),
    });
    // The answer to an early refusal may arrive while the body is still being written; a refusal of headers that
    // cannot be read has a body also for HEAD, which Node's client complains of after the response.
    sent.on("error", () => {});
    sent.end(hasBody ? body : undefined);
    sent.once("socket", () => (progress.stage = `HTTP/1.1, reused ${sent.reusedSocket}, sends`));
    sent.once("finish", () => (progress.stage += ", has sent"));
    const [reply] = (await once(sent, "response")) as [IncomingMessage];
    progress.stage += `, answered ${reply.statusCode}`;
    const text = await readText(reply, isWatch(rpc));
    const code = reply.trailers["grpc-status"] ?? reply.headers["grpc-status"];
    const outcome = { status: reply.statusCode ?? 0, code: codeOf(code, text), text };
    return isWatch(rpc) ? outcome : checkStatus(outcome, reply.headers["content-type"]);
  }

  async #sendHttp2(
    { rpc, verb, path, headers, body }: HttpRequest,
    hangsUp: boolean,
    progress: Progress,
  ): Promise<Outcome> {
    const session = this.#open();
    progress.stage = "HTTP/2, waits for a stream";
    const stream = session.request(
      {
        ":method": verb,
        ":path": printable(path),
        ...printableValues(headers),
      },
      { endStream: false },
    );
    if (hangsUp) {
      stream.on("error", () => {});
      stream.write(body.subarray(0, 100));
      setImmediate(() => stream.close(8));
      await once(stream, "close");
      return NOTHING;
    }
    stream.once("ready", () => (progress.stage = `HTTP/2, stream ${stream.id}, sends`));
    stream.once("finish", () => (progress.stage += ", has sent"));
    stream.once("response", (reply) => (progress.stage += `, answered ${reply[":status"]}`));
    stream.end(body);
    return readHttp2(stream, isWatch(rpc));
  }

  /** Writes the request as HTTP/1.1 with some of its bytes changed, and reads until the service closes. */
  async #sendRaw(
    { verb, path, headers, body }: HttpRequest,
    random: Random,
    progress: Progress,
  ): Promise<Outcome> {
    progress.stage = "changed bytes";
    const [host, port] = this.#address.split(":");
    const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    const text = `${verb} ${printable(path)} HTTP/1.1\r\nhost: ${this.#address}\r\nconnection: close\r\ncontent-length: ${body.length}\r\n${head.join("")}\r\n`;
    const socket = connectSocket({ host: String(host), port: Number(port) });
    socket.end(mutateBytes(Buffer.concat([Buffer.from(text, "latin1"), body]), random));
    // A reset is an answer to bytes that are not HTTP.
    const reply = await readText(socket).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNRESET" || error.code === "EPIPE") return "";
      throw error;
    });
    const status = /^HTTP\/1\.1 (\d+)/.exec(reply.replace(/^HTTP\/1\.1 1\d\d[^]*?\r\n\r\n/, ""))?.[1];
    return { status: Number(status ?? 0), code: undefined, text: reply };
  }

  #open(): ClientHttp2Session {
    if (this.#session === undefined || this.#session.closed || this.#session.destroyed) {
      // Node counts what is left unsent of a refused upload to this limit of the client, and never subtracts it.
      this.#session = connectHttp2(`http://${this.#address}`, { maxSessionMemory: 10_000 });
      // Its streams fail with the same error.
      this.#session.on("error", () => {});
      // Node's client answers to GOAWAY by itself: streams that were accepted go on.
      this.#session.setMaxListeners(0);
    }
    return this.#session;
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
    this.#session?.destroy();
  }
}

function toOutcome({ message }: Error): Outcome {
  return { ...NOTHING, problem: message };
}

async function withDeadline<T>(result: Promise<T>, progress: Progress): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const hang = () => reject(new Error(`no answer within ${HANG_MS} ms (${progress.stage})`));
  const timer = setTimeout(hang, HANG_MS);
  try {
    return await Promise.race([result, promise]);
  } finally {
    clearTimeout(timer);
  }
}

async function readHttp2(stream: ClientHttp2Stream, isWatched: boolean): Promise<Outcome> {
  let code: string | undefined;
  stream.on("trailers", (trailers) => (code = trailers["grpc-status"] as string | undefined));
  const closed = once(stream, "close").then(() => {
    throw new Error(`the stream was closed without an answer, code ${stream.rstCode}`);
  });
  const [reply] = (await Promise.race([once(stream, "response"), closed])) as [Record<string, string>];
  closed.catch(() => {});
  const text = await readText(stream, isWatched);
  const outcome = {
    status: Number(reply[":status"]),
    code: codeOf(code ?? reply["grpc-status"], text),
    text,
  };
  return isWatched ? outcome : checkStatus(outcome, reply["content-type"]);
}

function isWatch(rpc: string): boolean {
  return rpc.includes("/Watch");
}

/** The whole reply is read, but of a watch what comes within WATCH_MS; its beginning is kept. */
async function readText(stream: Readable, isWatched = false): Promise<string> {
  let text = "";
  let hasLeft = false;
  const leave = () => {
    hasLeft = true;
    stream.destroy();
  };
  const timer = isWatched ? setTimeout(leave, WATCH_MS) : undefined;
  try {
    for await (const chunk of stream)
      if (text.length < TEXT_CHARS_MAX) text += (chunk as Buffer).toString("latin1");
  } catch (error) {
    if (!hasLeft) throw error;
  } finally {
    clearTimeout(timer);
  }
  return text.slice(0, TEXT_CHARS_MAX);
}

/** Every reply of gRPC and gRPC-Web ends with a status; of a long one the end was not kept. */
function checkStatus(outcome: Outcome, type = ""): Outcome {
  const isWhole = outcome.text.length < TEXT_CHARS_MAX;
  if (!type.startsWith("application/grpc") || outcome.code !== undefined || !isWhole) return outcome;
  return { ...outcome, problem: "a reply of gRPC without a status" };
}

function codeOf(status: string | string[] | undefined, text: string): string | undefined {
  if (status !== undefined) return String(status);
  return /"code":"([a-z_]+)"/.exec(text)?.[1] ?? /grpc-status: ?(\d+)/.exec(text)?.[1];
}

/** Node's clients throw for what HTTP does not allow, before anything is sent; raw requests have such bytes. */
function printable(text: string): string {
  return text.replace(/[^!-~]/g, (character) => encodeURIComponent(character.toWellFormed()));
}

function printableValues(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, value.replace(/[^ -~]/g, "")]),
  );
}
