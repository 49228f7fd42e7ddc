import { once } from "node:events";
import { Agent, request, type IncomingMessage } from "node:http";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { loadSync, type ServiceDefinition } from "@grpc/proto-loader";
import type { BenchServer } from "./server.ts";

/** Where a server listens, and the key that it wants; empty: none. */
export type Server = Pick<BenchServer, "address" | "key">;

/** A JSON client over HTTP/1.1: Node's `http` with keep-alive connections. */
export interface RestClient extends Disposable {
  /** Resolves to the reply's body; rejects unless the status is one of success (200 to 299). */
  send(method: string, path: string, body?: Buffer): Promise<Buffer>;
  post(path: string, body: Buffer): Promise<Buffer>;
}

export function connectRest({ address, key }: Server): RestClient {
  const agent = new Agent({ keepAlive: true });
  async function send(method: string, path: string, body?: Buffer): Promise<Buffer> {
    const call = request(`http://${address}${path}`, {
      agent,
      method,
      headers: {
        ...(key !== "" && { authorization: `Bearer ${key}` }),
        ...(body !== undefined && { "content-type": "application/json", "content-length": body.length }),
      },
    });
    call.end(body);
    const [reply] = (await once(call, "response")) as [IncomingMessage];
    const answer = await buffer(reply);
    const status = reply.statusCode ?? 0;
    if (status < 200 || status > 299) throw new Error(`${method} ${path}: ${status} ${answer.toString()}`);
    return answer;
  }
  return { send, post: (path, body) => send("POST", path, body), [Symbol.dispose]: () => agent.destroy() };
}

/**
 * A client for unary RPCs, named "Service/Method": grpc-js on one connection, messages encoded by protobufjs.
 */
export interface GrpcClient extends Disposable {
  encode(rpc: string, request: object): Buffer;
  decode(rpc: string, reply: Buffer): object;
  send(rpc: string, request: Buffer): Promise<Buffer>;
}

/** The .proto files of a service's RPCs. */
interface Protos {
  files: string[];
  /** Folders in which the files, and what they import, are looked for. */
  folders: string[];
  /** The package of the services, such as "pgquiver.v1". */
  package: string;
}

export function connectGrpc(server: Server): GrpcClient {
  return connectProtos(server, {
    files: ["pgquiver/v1/embeddings.proto", "pgquiver/v1/search.proto"],
    folders: [join(import.meta.dirname, "../../proto")],
    package: "pgquiver.v1",
  });
}

/** Connects to a server that implements these .proto files. */
export function connectProtos({ address, key }: Server, protos: Protos): GrpcClient {
  const definitions = loadSync(protos.files, {
    includeDirs: [...protos.folders, join(import.meta.dirname, "../../node_modules/protobufjs")],
    keepCase: true,
  });
  const find = (rpc: string) => {
    const [service, method = ""] = rpc.split("/");
    const definition = (definitions[`${protos.package}.${service}`] as ServiceDefinition)[method];
    if (definition === undefined) throw new Error(`There is no RPC ${rpc}.`);
    return definition;
  };
  const client = new Client(address, credentials.createInsecure());
  const metadata = new Metadata();
  if (key !== "") metadata.set("authorization", `Bearer ${key}`);
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
