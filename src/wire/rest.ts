import { getOption, hasOption, type DescMethod, type Message } from "@bufbuild/protobuf";
import { createContextValues, createHandlerContext, type ContextValues } from "@connectrpc/connect";
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from "fastify";
import { http } from "../../gen/google/api/annotations_pb.ts";
import type { HttpRule } from "../../gen/google/api/http_pb.ts";
import { cancelled, invalidArgument } from "../errors.ts";
import { callLogger, type Implementation, type Service } from "./call.ts";
import { parameterValue, readMessage } from "./json-reader.ts";
import { writeMessage } from "./json-writer.ts";
import { readLegacy } from "./legacy.ts";
import { parsePath, type PathTemplate } from "./path.ts";

type Json = Record<string, unknown>;

/** A route made from a `google.api.http` rule. */
export interface RestRoute {
  verb: string;
  path: PathTemplate;
}

/**
 * Registers a Fastify route for every `google.api.http` rule of the services, which reads the
 * request into the RPC's message, calls the implementation, and writes the reply as OpenAI's JSON.
 * Returns the routes.
 */
export function registerRest(app: FastifyInstance, services: readonly Service[]): RestRoute[] {
  const routes: RestRoute[] = [];
  for (const { desc, implementation } of services) {
    for (const method of desc.methods) {
      if (!hasOption(method, http)) continue;
      const rule = getOption(method, http);
      const run = implementation[method.localName];
      if (run === undefined) throw new Error(`${method.toString()} is not implemented`);
      for (const binding of [rule, ...rule.additionalBindings]) {
        const route = bind(binding);
        routes.push(route);
        app.route({
          method: route.verb as HTTPMethods,
          url: route.path.route,
          handler: (request, reply) => answer(method, binding, route.path, run, request, reply),
        });
      }
    }
  }
  return routes;
}

function bind(rule: HttpRule): RestRoute {
  const { case: verb, value } = rule.pattern;
  if (verb === undefined || verb === "custom") throw new Error("an http rule needs a verb and a path");
  if (rule.body !== "" && rule.body !== "*") throw new Error(`unsupported body: ${rule.body}`);
  return { verb: verb.toUpperCase(), path: parsePath(value) };
}

async function answer(
  method: DescMethod,
  rule: HttpRule,
  path: PathTemplate,
  run: Implementation[string],
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const values = createContextValues().set(callLogger, request.log);
  const sent = rule.body === "*" ? readBody(request.body) : readQuery(method, request.query as Json);
  const { json, reshape } = readLegacy(method, sent, values);
  for (const field of path.fields) {
    if (field in json) throw invalidArgument(field, `Unknown parameter: '${field}'.`, "UNKNOWN_PARAMETER");
  }
  const message = readMessage(method.input, json) as Message & Json;
  const parameters = request.params as Record<string, string>;
  for (const field of method.input.fields) {
    if (path.fields.includes(field.name)) message[field.localName] = parameters[field.name];
  }
  const output = (await run(message as never, restContext(method, request, reply, values))) as Message;
  return reply
    .type("application/json; charset=utf-8")
    .send(JSON.stringify(reshape(writeMessage(method.output, output))));
}

/** OpenAI's clients send empty bodies where every field is optional. */
function readBody(body: unknown): Json {
  if (body === undefined) return {};
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw invalidArgument(undefined, "Invalid body: expected a JSON object.", "INVALID_TYPE");
  }
  return { ...body };
}

function readQuery(method: DescMethod, query: Json): Json {
  const json: Json = {};
  for (const [name, text] of Object.entries(query)) {
    if (typeof text !== "string") throw invalidArgument(name, `Invalid '${name}': given more than once.`);
    json[name] = parameterValue(method.input, name, text);
  }
  return json;
}

function restContext(
  method: DescMethod,
  request: FastifyRequest,
  reply: FastifyReply,
  contextValues: ContextValues,
) {
  const gone = new AbortController();
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) gone.abort(cancelled());
  });
  return createHandlerContext({
    service: method.parent,
    method,
    protocolName: "rest",
    requestMethod: request.method,
    url: request.url,
    requestSignal: gone.signal,
    contextValues,
  });
}
