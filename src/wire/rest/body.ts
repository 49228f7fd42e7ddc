import { isUtf8 } from "node:buffer";
import type { ServerHttp2Stream } from "node:http2";
import { Readable } from "node:stream";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { DescMethod } from "@bufbuild/protobuf";
import type { Scope } from "../../../gen/pgquiver/v1/options_pb.ts";
import { laterTurns } from "../../api/concurrency/bulk-turns.ts";
import { invalidArgument } from "../../errors.ts";
import { BodyMemory } from "../body-memory.ts";
import type { RequestLimits } from "../limits/request-limits.ts";
import type { AdmitFor } from "../service.ts";
import { readBytes } from "./body-bytes.ts";
import { parseJson } from "./json-parser.ts";

/** Marks a route that needs any key, since each RPC that it calls asks for a scope: see doors/calls.ts. */
export const BY_CALL = "by call";

declare module "fastify" {
  interface FastifyContextConfig {
    /** What the route needs of a key; BY_CALL: what each RPC needs that the route calls. */
    scope?: Scope | typeof BY_CALL;
    /** The RPC that the route calls; undefined for routes of other kinds. */
    rpc?: DescMethod;
    /** The limits of a route's body; undefined for uploads, which are read as they come. */
    limits?: RequestLimits;
  }
}

/**
 * Reads the bodies of an app's routes as JSON: each after memory was reserved for it, which is returned when the call
 * ends, and checked before objects are made of it.
 */
export function readBodies(app: FastifyInstance, admitFor: AdmitFor): void {
  app.addHook("preParsing", async ({ raw, headers, routeOptions, principal }, reply, payload) => {
    const { limits } = routeOptions.config;
    // Forms are read as they come.
    const isForm = headers["content-type"]?.startsWith("multipart/form-data") === true;
    if (limits === undefined || isForm || isEmpty(raw)) return payload;
    const memory = new BodyMemory(admitFor(principal.caller), reply.raw);
    const length = headers["content-length"];
    if (length === undefined) return Readable.from(memory.meter(payload, limits.bytesMax));
    // Fastify refuses a longer body by its length.
    await memory.reserve(Math.min(Number(length), limits.bytesMax));
    return payload;
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", async (request: FastifyRequest, payload: Readable) =>
    parseBody(request, await readBytes(request, payload)),
  );
}

function isEmpty(request: FastifyRequest["raw"]): boolean {
  if ("stream" in request) return (request.stream as ServerHttp2Stream).endAfterHeaders;
  return (
    request.headers["content-length"] === undefined && request.headers["transfer-encoding"] === undefined
  );
}

async function parseBody(request: FastifyRequest, body: Buffer): Promise<unknown> {
  if (body.length === 0) return undefined;
  if (!isUtf8(body)) throw invalidArgument(undefined, "The body is not valid UTF-8.", "INVALID_JSON");
  await checkValues(request.routeOptions.config.limits, body);
  try {
    return await parseJson(body);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw invalidArgument(undefined, `The body is not valid JSON: ${error.message}`, "INVALID_JSON");
  }
}

/** Counts a body's values, and lets the event loop turn meanwhile. */
async function checkValues(limits: RequestLimits | undefined, body: Buffer): Promise<void> {
  const steps = limits?.checkJsonInSteps?.(body);
  if (steps === undefined) return limits?.check(body, "json");
  const turn = laterTurns();
  for (const _ of steps) {
    const turned = turn();
    if (turned !== undefined) await turned;
  }
}
