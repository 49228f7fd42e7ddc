import { Agent } from "node:http";
import { create, fromJson, toJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { ConnectError, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { createGrpcWebTransport as createFetchTransport } from "@connectrpc/connect-web";
import { ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import { callError, headersOf, type Client, type Json, type Protocol } from "./client.ts";
import { findMethod, fromPlain, toPlainRequest, type WellKnownForms } from "./dialect.ts";

export const grpcByConnect: Protocol = overHttp2("gRPC by connect-node", (options) =>
  createGrpcTransport(options),
);

export const connectOverHttp2: Protocol = overHttp2("Connect, binary over HTTP/2", (options) =>
  createConnectTransport({ ...options, httpVersion: "2", useBinaryFormat: true }),
);

export const connectOverHttp1: Protocol = {
  name: "Connect, JSON over HTTP/1.1",
  connect({ url }) {
    const agent = new Agent({ keepAlive: true });
    const transport = createConnectTransport({
      baseUrl: url,
      httpVersion: "1.1",
      useBinaryFormat: false,
      nodeOptions: { agent },
    });
    return connectClient(transport, () => agent.destroy());
  },
};

export const grpcWebOverHttp2: Protocol = overHttp2("gRPC-Web by connect-node over HTTP/2", (options) =>
  createGrpcWebTransport({ ...options, httpVersion: "2" }),
);

export const grpcWebByFetch: Protocol = {
  name: "gRPC-Web by connect-web",
  connect: ({ url }) => connectClient(createFetchTransport({ baseUrl: url }), () => undefined),
};

function overHttp2(
  name: string,
  createTransport: (options: { baseUrl: string; sessionManager: Http2SessionManager }) => Transport,
): Protocol {
  return {
    name,
    connect({ url }) {
      const sessionManager = new Http2SessionManager(url);
      return connectClient(createTransport({ baseUrl: url, sessionManager }), () => sessionManager.abort());
    },
  };
}

/** The well-known types in protobuf's standard JSON mapping. */
const forms: WellKnownForms = {
  writeStruct: (json) => json,
  writeValue: (json) => json,
  writeMask: (paths) =>
    paths.map((path) => path.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())).join(","),
  readStruct: (form) => form,
  readValue: (form) => form,
};

function connectClient(transport: Transport, close: () => void): Client {
  return {
    async call(rpc, json = {}, options = {}) {
      const method = findMethod(rpc);
      const message = fromJson(method.input, toPlainRequest(method, json, forms) as JsonObject);
      try {
        const reply = await transport.unary(
          method,
          options.signal,
          options.timeoutMs,
          headersOf(options),
          message,
        );
        options.onRequestId?.(reply.header.get("x-request-id") ?? undefined);
        const plain: JsonValue = toJson(method.output, create(method.output, reply.message), {
          alwaysEmitImplicit: true,
          useProtoFieldName: true,
        });
        return fromPlain(method.output, plain as Json, forms);
      } catch (error) {
        const failed = ConnectError.from(error);
        const info = failed.findDetails(ErrorInfoSchema)[0];
        throw callError(failed.code, failed.rawMessage, {
          reason: info?.reason ?? null,
          param: info?.metadata["param"] ?? null,
          requestId: failed.metadata.get("x-request-id") ?? undefined,
        });
      }
    },
    async [Symbol.asyncDispose]() {
      close();
    },
  };
}
