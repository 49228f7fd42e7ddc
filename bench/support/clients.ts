import { once } from "node:events";
import { Agent, request, type IncomingMessage } from "node:http";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { loadSync, type ServiceDefinition } from "@grpc/proto-loader";
import type { BenchServer } from "./server.ts";

/** A JSON client over HTTP/1.1: Node's `http` with keep-alive connections. */
export interface RestClient extends Disposable {
  /** Resolves to the reply's body; rejects unless the status is 200. */
  post(path: string, body: Buffer): Promise<Buffer>;
}

export function connectRest({ address, key }: BenchServer): RestClient {
  const agent = new Agent({ keepAlive: true });
  return {
    async post(path, body) {
      const call = request(`http://${address}${path}`, {
        agent,
        method: "POST",
        headers: {
          authorization: `Bearer ${key}`,
          "content-type": "application/json",
          "content-length": body.length,
        },
      });
      call.end(body);
      const [reply] = (await once(call, "response")) as [IncomingMessage];
      const answer = await buffer(reply);
      if (reply.statusCode !== 200) throw new Error(`POST ${path}: ${reply.statusCode} ${answer.toString()}`);
      return answer;
    },
    [Symbol.dispose]: () => agent.destroy(),
  };
}

/**
 * A client for unary RPCs, named "Service/Method": grpc-js on one connection, messages encoded by protobufjs.
 */
export interface GrpcClient extends Disposable {
  encode(rpc: string, request: object): Buffer;
  decode(rpc: string, reply: Buffer): object;
  send(rpc: string, request: Buffer): Promise<Buffer>;
}

export function connectGrpc({ address, key }: BenchServer): GrpcClient {
  const root = join(import.meta.dirname, "../..");
  const definitions = loadSync(["pgquiver/v1/embeddings.proto", "pgquiver/v1/search.proto"], {
    includeDirs: [join(root, "proto"), join(root, "node_modules/protobufjs")],
    keepCase: true,
  });
  const find = (rpc: string) => {
    const [service, method = ""] = rpc.split("/");
    const definition = (definitions[`pgquiver.v1.${service}`] as ServiceDefinition)[method];
    if (definition === undefined) throw new Error(`There is no RPC ${rpc}.`);
    return definition;
  };
  const client = new Client(address, credentials.createInsecure());
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${key}`);
  const asIs = (bytes: Buffer) => bytes;
  return {
    encode: (rpc, message) => find(rpc).requestSerialize(message),
    decode: (rpc, reply) => find(rpc).responseDeserialize(reply),
    send: (rpc, message) =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(find(rpc).path, asIs, asIs, message, metadata, (error, reply) => {
          if (error === null && reply !== undefined) resolve(reply);
          else reject(error ?? new Error(`${rpc} was not answered.`));
        });
      }),
    [Symbol.dispose]: () => client.close(),
  };
}
