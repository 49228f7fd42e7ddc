import type { JsonValue } from "@bufbuild/protobuf";
import {
  createConnectRouter,
  type ConnectRouter,
  type ConnectRouterOptions,
  type ContextValues,
} from "@connectrpc/connect";
import * as connect from "@connectrpc/connect/protocol-connect";
import * as grpc from "@connectrpc/connect/protocol-grpc";
import * as grpcWeb from "@connectrpc/connect/protocol-grpc-web";
import {
  compressionBrotli,
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import type { FastifyInstance, FastifyRequest } from "fastify";

/** How Connect's routes are served. */
export interface ConnectOptions extends ConnectRouterOptions {
  /** What calls get beside their message; default: nothing. */
  contextValues?: (request: FastifyRequest) => ContextValues;
}

/**
 * Registers the routes of Connect, gRPC-Web and gRPC for what `register` adds. @connectrpc/connect-fastify would do,
 * but that it writes the stack of every caller that hangs up amid an answer to the console.
 */
export function connectRoutes(
  app: FastifyInstance,
  register: (router: ConnectRouter) => void,
  options: ConnectOptions = {},
): void {
  const router = createConnectRouter({ acceptCompression: [compressionGzip, compressionBrotli], ...options });
  register(router);
  // Connect reads the bodies itself. Other types are refused by it, or by Fastify.
  for (const type of [
    "application/json",
    connect.contentTypeRegExp,
    grpc.contentTypeRegExp,
    grpcWeb.contentTypeRegExp,
  ])
    app.addContentTypeParser(type, (_request, _body, done) => done(null, undefined));
  for (const handle of router.handlers) {
    app.all(handle.requestPath, async (request, reply) => {
      try {
        const answer = await handle(
          universalRequestFromNodeRequest(
            request.raw,
            reply.raw,
            request.body as JsonValue | undefined,
            options.contextValues?.(request),
          ),
        );
        // Those that hooks have set; Connect knows nothing of them.
        for (const [name, value] of Object.entries(reply.getHeaders()))
          if (value !== undefined) reply.raw.setHeader(name, value);
        await universalResponseToNodeResponse(answer, reply.raw);
      } catch (error) {
        if (!reply.raw.headersSent) throw error;
        request.log.debug({ err: error }, "Could not finish an answer");
      }
    });
  }
}
