import { readFileSync } from "node:fs";
import type { FastifyReply, FastifyRequest } from "fastify";
import { invalidArgument } from "../../errors.ts";
import type { Door } from "../../wire/doors/calls.ts";
import { httpError, sendError, toConnectError, type HttpError } from "../../wire/error.ts";
import { challengeFor } from "../../wire/caller/protected-resource.ts";
import { freeJsonLimits } from "../../wire/limits/free-json.ts";
import { BY_CALL } from "../../wire/rest/body.ts";
import { Arguments } from "./arguments.ts";
import { tools, type ToolContext } from "./tools.ts";

type Json = Record<string, unknown>;

/** Bytes of a request: a query of 32,768 characters and a large filter. */
const BODY_BYTES_MAX = 1_048_576;

const INSTRUCTIONS =
  "Vector stores of documents. Find documents with search, read one with fetch; list_stores and list_files show what there is, and search_store searches one store with filters.";

/**
 * Serves the Model Context Protocol at /mcp, by the transport "streamable HTTP" without sessions: each request has its
 * answer as JSON in the response, so any process may answer it.
 */
export const mcp: Door = (app, { calls, requestBytesMax, issuer }) => {
  const bodyLimit = Math.min(BODY_BYTES_MAX, requestBytesMax);
  const config = {
    scope: BY_CALL,
    errorBody,
    ...(issuer && { challenge: (request: FastifyRequest) => challengeFor(request, "/mcp", issuer) }),
    limits: freeJsonLimits(bodyLimit),
  } as const;
  app.route({
    method: "POST",
    url: "/mcp",
    bodyLimit,
    config,
    handler: (request, reply) => {
      const base = `${request.protocol}://${request.host}`;
      const storeIds = namedStores(request);
      return answer(request, reply, { calls: calls(request, reply, "mcp"), storeIds, base });
    },
  });
  // A server without sessions has no stream to open and no session to end.
  app.route({
    method: ["GET", "DELETE"],
    url: "/mcp",
    config,
    handler: (_request, reply) => sendError(reply, notAllowed()),
  });
};

async function answer(
  request: FastifyRequest,
  reply: FastifyReply,
  context: ToolContext,
): Promise<FastifyReply> {
  if (Array.isArray(request.body))
    throw invalidArgument(undefined, "Invalid body: batches are not supported.", "INVALID_REQUEST");
  if (request.body === undefined)
    throw invalidArgument(undefined, "Invalid body: expected a JSON-RPC message.", "INVALID_REQUEST");
  const sdk = await (opening ??= openSdk());
  const server = sdk.createServer(context);
  try {
    const transport = sdk.createTransport();
    await server.connect(transport);
    const sent = new Request("http://localhost/mcp", { method: "POST", headers: headersOf(request) });
    const response = await transport.handleRequest(sent, { parsedBody: request.body });
    const type = response.headers.get("content-type");
    if (type !== null) void reply.type(type);
    return await reply.code(response.status).send(await response.text());
  } finally {
    await server.close();
  }
}

/** The headers that the transport checks. */
function headersOf({ headers }: FastifyRequest): Headers {
  const names = ["accept", "content-type", "mcp-protocol-version"];
  return new Headers(
    names
      .map((name): [string, string] => [name, String(headers[name] ?? "")])
      .filter(([, value]) => value !== ""),
  );
}

/** The SDK, which takes 29 MB of memory: loaded with the first request. */
let opening: ReturnType<typeof openSdk> | undefined;

async function openSdk() {
  const [{ Server }, { WebStandardStreamableHTTPServerTransport }, types, { AjvJsonSchemaValidator }] =
    await Promise.all([
      import("@modelcontextprotocol/sdk/server/index.js"),
      import("@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js"),
      import("@modelcontextprotocol/sdk/types.js"),
      import("@modelcontextprotocol/sdk/validation/ajv"),
    ]);
  const { version } = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  const list = Array.from(tools, ([name, { description, properties, required }]) => ({
    name,
    description,
    inputSchema: {
      type: "object" as const,
      properties,
      required: [...required],
      additionalProperties: false,
    },
    annotations: { readOnlyHint: true, openWorldHint: false },
  }));
  // Shared, because making one takes a millisecond.
  const jsonSchemaValidator = new AjvJsonSchemaValidator();
  return {
    createTransport: () => new WebStandardStreamableHTTPServerTransport({ enableJsonResponse: true }),
    createServer(context: ToolContext) {
      const server = new Server(
        { name: "pgquiver", version },
        { capabilities: { tools: {} }, instructions: INSTRUCTIONS, jsonSchemaValidator },
      );
      server.setRequestHandler(types.ListToolsRequestSchema, () => ({ tools: list }));
      server.setRequestHandler(types.CallToolRequestSchema, ({ params }) => {
        const tool = tools.get(params.name);
        if (tool === undefined)
          throw new types.McpError(types.ErrorCode.InvalidParams, `Unknown tool: ${params.name}`);
        return call(() => tool.run(new Arguments(params.arguments ?? {}, tool.properties), context));
      });
      return server;
    },
  };
}

/** Runs a tool. Its failure is a result too, so that the model reads why and can do better. */
async function call(run: () => Promise<Json>) {
  try {
    const structuredContent = await run();
    const text = JSON.stringify(structuredContent);
    return { content: [{ type: "text" as const, text }], structuredContent };
  } catch (error) {
    const text = toConnectError(error).rawMessage;
    return { content: [{ type: "text" as const, text }], isError: true };
  }
}

/** The stores of `?stores=a,b`, or of the header `x-vector-stores`; undefined: none are named. */
function namedStores({ query, headers }: FastifyRequest): string[] | undefined {
  const named = ((query as Json)["stores"] ?? headers["x-vector-stores"]) as string | string[] | undefined;
  if (named === undefined) return undefined;
  const ids = [named].flat().flatMap((text) => text.split(","));
  return [...new Set(ids.map((id) => id.trim()).filter((id) => id !== ""))];
}

function notAllowed(): HttpError {
  const error = httpError(405, "This server has no sessions: send JSON-RPC messages by POST.", {
    code: "invalid_request",
  });
  return { ...error, headers: { ...error.headers, allow: "POST" } };
}

/** JSON-RPC's codes of errors that concern the request itself; others are the server's own. */
const CODES: Record<string, number> = { invalid_json: -32_700 };

function errorBody({ status, body }: HttpError): unknown {
  const code = CODES[body.error.code ?? ""] ?? (status === 400 ? -32_600 : -32_000);
  return { jsonrpc: "2.0", error: { code, message: body.error.message }, id: null };
}
