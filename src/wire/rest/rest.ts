import { constants, type ServerHttp2Stream } from "node:http2";
import { Readable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { getOption, hasOption, type DescField, type DescMethod, type Message } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from "fastify";
import { http } from "../../../gen/google/api/annotations_pb.ts";
import type { HttpRule } from "../../../gen/google/api/http_pb.ts";
import { EncodingFormat } from "../../../gen/pgquiver/v1/models_pb.ts";
import { estimateJsonLength } from "../../api/json-length.ts";
import { principal } from "../../api/principal.ts";
import { isWatch, scopeOf } from "../../api/scope.ts";
import { Slots } from "../../api/concurrency/slots.ts";
import { invalidArgument } from "../../errors.ts";
import { sendError, unsupportedType } from "../error.ts";
import { requestLimits } from "../limits/request-limits.ts";
import type { Implementation, Service } from "../service.ts";
import { bindings, checkBindings, type UploadBinding } from "./bindings.ts";
import { abortOnClose, httpContext, type ToCall } from "./context.ts";
import { sendEvents } from "./events.ts";
import { readLongMessage } from "./json-reader.ts";
import { writeLongMessage, writeMessage } from "./json-writer.ts";
import { readLegacy } from "./legacy.ts";
import { NDJSON_TYPES, readLine, readLines, writeLines } from "./ndjson.ts";
import { parsePath, type PathTemplate } from "./path.ts";
import { readQuery } from "./query.ts";

type Json = Record<string, unknown>;

/** A route derived from a `google.api.http` rule. */
export interface RestRoute {
  verb: string;
  path: PathTemplate;
}

/**
 * Registers a Fastify route for every `google.api.http` rule of the services (transcoding): the route
 * converts the request to the RPC's message, calls the implementation, and writes the reply as OpenAI's JSON.
 * Streams are NDJSON, watches server-sent events. Returns the routes. Throws when a rule or an implementation is faulty.
 */
export function registerRest(
  app: FastifyInstance,
  services: readonly Service[],
  bytesMax: number,
  toCall: ToCall,
): RestRoute[] {
  checkBindings(services);
  const routes: RestRoute[] = [];
  for (const { desc, implementation, uploadsMax = Infinity } of services) {
    const uploads = new Slots(uploadsMax);
    for (const method of desc.methods) {
      if (!hasOption(method, http)) continue;
      const rule = getOption(method, http);
      const run = implementation[method.localName];
      if (run === undefined) throw new Error(`${method.toString()} is not implemented`);
      for (const binding of [rule, ...rule.additionalBindings]) {
        const route = bind(method, binding);
        routes.push(route);
        registerRoute(
          app,
          { method, rule: binding, path: route.path, run, uploads, bytesMax, toCall },
          route.verb as HTTPMethods,
        );
      }
    }
  }
  return routes;
}

/** An RPC, and one of its http rules. */
interface Binding {
  method: DescMethod;
  rule: HttpRule;
  path: PathTemplate;
  run: Implementation[string];
  /** The uploads of the service that may be open at the same time. */
  uploads: Slots;
  /** Largest request body of any RPC. */
  bytesMax: number;
  toCall: ToCall;
}

function registerRoute(app: FastifyInstance, binding: Binding, method: HTTPMethods): void {
  const url = binding.path.route;
  const limits = requestLimits(
    binding.method,
    binding.bytesMax,
    findBody(binding.method, binding.rule)?.message,
  );
  const settings = {
    method,
    url,
    bodyLimit: limits.bytesMax,
    config: { limits, scope: scopeOf(binding.method), rpc: binding.method },
  };
  switch (binding.method.methodKind) {
    case "unary":
      app.route({ ...settings, handler: (request, reply) => answer(binding, request, reply) });
      return;
    case "server_streaming":
      app.route({ ...settings, handler: (request, reply) => answerWithLines(binding, request, reply) });
      return;
    case "client_streaming":
      registerUpload(app, binding, method);
      return;
    case "bidi_streaming":
      throw new Error(`${binding.method.toString()} streams both ways, which HTTP/1.1 cannot do`);
  }
}

function registerUpload(app: FastifyInstance, binding: Binding, method: HTTPMethods): void {
  const special = bindings.get(binding.method);
  const upload = special?.kind === "client_streaming" ? special : uploadLines(binding);
  // A separate Fastify scope, without body parsers: the handler reads the body as a stream.
  void app.register(async (uploads) => {
    uploads.removeAllContentTypeParsers();
    uploads.addContentTypeParser("*", (_request, body, done) => done(null, body));
    uploads.route({
      method,
      url: binding.path.route,
      config: { scope: scopeOf(binding.method), rpc: binding.method },
      handler: (request, reply) => answerUpload({ ...binding, upload }, request, reply),
    });
  });
}

function bind(method: DescMethod, rule: HttpRule): RestRoute {
  const { case: verb, value } = rule.pattern;
  if (verb === undefined || verb === "custom") throw new Error("an http rule needs a verb and a path");
  if (!["", "*"].includes(rule.body) && findBody(method, rule) === undefined)
    throw new Error(`${method.toString()} has no message field '${rule.body}' for its body`);
  return { verb: verb.toUpperCase(), path: parsePath(value) };
}

async function answer(binding: Binding, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { method, run } = binding;
  const context = restContext(binding, request, reply);
  const { message, reshape } = await readRequest(binding, request);
  const output = (await run(message as never, context)) as Message;
  for (const [name, value] of context.responseHeader) void reply.header(name, value);
  const form = (message as Message & Json)["encodingFormat"] === EncodingFormat.BASE64 ? "base64" : "numbers";
  return sendJson(reply, reshape(await writeLongMessage(method.output, output, form)));
}

async function answerWithLines(
  binding: Binding,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { method, run } = binding;
  const context = restContext(binding, request, reply);
  const { message } = await readRequest(binding, request);
  const special = bindings.get(method);
  if (special?.kind === "server_streaming") {
    special.prepare(request, message as never);
    const replies = run(message as never, context) as AsyncIterable<never>;
    return special.send(message as never, replies, request, reply);
  }
  if (isWatch(method))
    return sendEvents(
      method.output,
      run(message as never, context) as AsyncIterable<Message>,
      request,
      reply,
    );
  const lines = writeLines(method.output, run(message as never, context) as AsyncIterable<Message>);
  // The first line is awaited before the status is sent, so that an error before it becomes an error
  // response. A later error can only abort the connection.
  const first = await lines.next();
  const body = (async function* () {
    if (first.done !== true) yield first.value;
    yield* lines;
  })();
  return reply.type("application/x-ndjson; charset=utf-8").send(Readable.from(body));
}

async function answerUpload(
  binding: Binding & { upload: UploadBinding },
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { types } = binding.upload;
  endUploadAfterAnswer(request.raw, reply.raw);
  const type = request.headers["content-type"]?.split(";", 1)[0]?.trim().toLowerCase();
  if (!types.includes(type)) return sendError(reply, unsupportedType(String(types[0])));
  const output = await receiveUpload(binding, request, restContext(binding, request, reply));
  return sendJson(reply, writeMessage(binding.method.output, output));
}

async function receiveUpload(
  { run, uploads, upload }: Binding & { upload: UploadBinding },
  request: FastifyRequest,
  context: HandlerContext,
): Promise<Message> {
  const full = "Too many uploads at the moment: try again later.";
  using _slot = uploads.take(full, `address ${request.ip}`, context.values.get(principal).caller);
  const messages = upload.read(request);
  try {
    return (await run(messages as never, context)) as Message;
  } finally {
    // Not awaited: a generator returns only after its pending read, which may wait for a slow client.
    void messages.return(undefined).catch(() => {});
  }
}

/** Reads an upload as NDJSON: one message per line, each completed with the fields that the path binds. */
function uploadLines({ method, path }: Binding): UploadBinding {
  return {
    kind: "client_streaming",
    types: NDJSON_TYPES,
    async *read(request) {
      for await (const line of readLines(request)) {
        const message = readLine(method.input, line);
        bindPath(method, path, message, request);
        yield message;
      }
    },
  };
}

/**
 * For how long the rest of a body is read and discarded after an early response, so that the client can
 * receive the response.
 */
export const LINGER_MS = 5_000;

/**
 * Prepares a response that may be sent before the request body has been read to its end. HTTP/1.1: after the
 * response the rest of the body is read and discarded, for at most LINGER_MS; if the socket were closed at
 * once, TCP would answer the client's further bytes with RST, and the client could lose the response. HTTP/2:
 * the stream is closed.
 */
export function endUploadAfterAnswer(request: FastifyRequest["raw"], response: FastifyReply["raw"]): void {
  if ("stream" in request) {
    const stream = request.stream as ServerHttp2Stream;
    // RST_STREAM with NO_ERROR asks the client to stop sending and keeps the response valid (RFC 9113, 8.1).
    response.once("finish", () => stream.close(constants.NGHTTP2_NO_ERROR));
    return;
  }
  // Otherwise Node closes the connection with the response, and bytes that the client still sends cause a
  // RST.
  const isLast = !response.shouldKeepAlive;
  response.shouldKeepAlive = true;
  const end = () => {
    if (isLast) request.socket.destroySoon();
  };
  response.once("finish", () => {
    if (request.complete) return end();
    request.once("end", end).unpipe().removeAllListeners("readable").resume();
    // A request whose body has arrived must not take the connection along, which serves the next one by then.
    const destroy = () => {
      if (!request.complete) request.destroy();
    };
    setTimeout(destroy, LINGER_MS).unref();
  });
}

/**
 * The request field that the body is read into; undefined when the body is the whole request, or when the
 * rule has no body.
 */
function findBody({ input }: DescMethod, { body }: HttpRule) {
  const field = input.fields.find(({ name }) => name === body);
  return field?.fieldKind === "message" ? field : undefined;
}

async function readRequest({ method, rule, path }: Binding, request: FastifyRequest) {
  const sent = rule.body === "" ? readQuery(method.input, request.query as Json) : readBody(request.body);
  const { json, reshape } = readLegacy(method, sent);
  for (const field of path.fields) {
    if (field in json) throw invalidArgument(field, `Unknown parameter: '${field}'.`, "UNKNOWN_PARAMETER");
  }
  const body = findBody(method, rule);
  const whole = body === undefined ? json : readBeside(method, body, path, request.query as Json);
  const message = (await readLongMessage(method.input, whole)) as Message & Json;
  if (body !== undefined) message[body.localName] = await readLongMessage(body.message, json);
  bindPath(method, path, message, request);
  return { message, reshape };
}

/** Reads from the URL the fields of a request whose body is one of its fields. Other parameters are ignored. */
function readBeside({ input }: DescMethod, body: DescField, path: PathTemplate, query: Json): Json {
  const named = input.fields.filter((field) => field !== body && !path.fields.includes(field.name));
  const names = new Set(named.map(({ name }) => name));
  return readQuery(input, Object.fromEntries(Object.entries(query).filter(([name]) => names.has(name))));
}

function bindPath(method: DescMethod, path: PathTemplate, message: Message, request: FastifyRequest): void {
  const parameters = request.params as Record<string, string>;
  for (const field of method.input.fields) {
    if (path.fields.includes(field.name))
      (message as Message & Json)[field.localName] = parameters[field.name];
  }
}

/** Characters of JSON written per turn of the event loop. */
const CHARS_A_TURN = 262_144;

function sendJson(reply: FastifyReply, json: Json): FastifyReply {
  const isLong = estimateJsonLength(json, CHARS_A_TURN) > CHARS_A_TURN;
  return reply
    .type("application/json; charset=utf-8")
    .send(isLong ? Readable.from(writeInTurns(json)) : JSON.stringify(json));
}

/**
 * Writes a reply's JSON in pieces and yields to the event loop between them. `JSON.stringify` of 2,048
 * vectors of 1,536 numbers would block the event loop for a second, and escaped texts may exceed the maximum
 * length of a string.
 */
async function* writeInTurns(json: Json): AsyncGenerator<string, void> {
  let text = "";
  for (const piece of writePieces(json)) {
    text += piece;
    if (text.length < CHARS_A_TURN) continue;
    yield text;
    text = "";
    await setImmediate();
  }
  yield text;
}

/**
 * Splits the JSON of a reply: one piece per item of `data`, recursively for items that have a `data` of their
 * own.
 */
function* writePieces(json: Json): Generator<string, void> {
  const { data, ...rest } = json;
  if (!Array.isArray(data)) return yield JSON.stringify(json);
  yield `${JSON.stringify(rest).slice(0, -1)},"data":[`;
  for (const [index, item] of (data as Json[]).entries()) {
    if (index > 0) yield ",";
    yield* writePieces(item);
  }
  yield "]}";
}

/**
 * Converts a parsed body to an object. No body is an empty object, because OpenAI's clients send none when
 * every field is optional.
 */
function readBody(body: unknown): Json {
  if (body === undefined) return {};
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw invalidArgument(undefined, "Invalid body: expected a JSON object.", "INVALID_TYPE");
  }
  return { ...body };
}

function restContext(
  { method, toCall }: Binding,
  request: FastifyRequest,
  reply: FastifyReply,
): HandlerContext {
  return httpContext(method, "rest", request, toCall(request, reply.raw), abortOnClose(reply));
}
