import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { connectProtos, connectRest } from "../support/clients.ts";
import { startProcess } from "../support/process.ts";
import { treeCpuMs } from "./cpu.ts";
import {
  awaitAnswer,
  cut,
  findFreePorts,
  RESULTS,
  runAll,
  toBytes,
  type Peer,
  type Query,
  type Row,
} from "./peer.ts";

const MODULE = "github.com/weaviate/weaviate";
/** Rows of a request. */
const BATCH = 500;
/** The class whose tenants are the small stores. */
const TENANTS = "Tenants";
const HEADER = { properties: [property("content", "text"), property("position", "int")] };

/**
 * The folder of Weaviate's .proto files: WEAVIATE_PROTOS, or that in the Go module from which the server was built, whose
 * go.mod lies beside it. Throws when there is none.
 */
function findProtos(command: string): string {
  const given = process.env["WEAVIATE_PROTOS"];
  if (given !== undefined) return given;
  try {
    const list = ["list", "-m", "-f", "{{.Dir}}", MODULE];
    const module = execFileSync("go", list, { cwd: dirname(command), encoding: "utf8" });
    return join(module.trim(), "grpc/proto");
  } catch (cause) {
    throw new Error("Weaviate's .proto files are not found: set WEAVIATE_PROTOS to its folder grpc/proto.", {
      cause,
    });
  }
}

/** Starts Weaviate's server. Rows and searches go over gRPC; what changes the schema, and deletes by id, over REST. */
export async function startWeaviate(
  command: string,
  directory: string,
  stack: AsyncDisposableStack,
): Promise<Peer> {
  const protos = findProtos(command);
  mkdirSync(directory);
  const [port, grpcPort, ...cluster] = (await findFreePorts(6)) as [number, number, ...number[]];
  const address = `127.0.0.1:${port}`;
  const server = stack.use(
    startProcess(command, ["--scheme", "http", "--host", "127.0.0.1", "--port", String(port)], {
      cwd: directory,
      env: { ...settingsOf(directory, cluster), GRPC_PORT: String(grpcPort) },
      stdio: ["ignore", "ignore", "inherit"],
    }),
  );
  await awaitAnswer(`http://${address}/v1/.well-known/ready`, server);
  const http = stack.use(connectRest({ address, key: "" }));
  const grpc = stack.use(
    connectProtos(
      { address: `127.0.0.1:${grpcPort}`, key: "" },
      { files: ["v1/weaviate.proto"], folders: [protos], package: "weaviate.v1" },
    ),
  );
  const send = async <Reply>(method: string, path: string, body?: object): Promise<Reply> => {
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const reply = await http.send(method, path, bytes);
    return (reply.length === 0 ? undefined : JSON.parse(reply.toString())) as Reply;
  };
  const call = async (rpc: string, message: Buffer) =>
    grpc.decode(`Weaviate/${rpc}`, await grpc.send(`Weaviate/${rpc}`, message));
  const encodeRows = (name: string, rows: readonly Row[], tenant?: string) =>
    grpc.encode("Weaviate/BatchObjects", { objects: rows.map((row) => toObject(name, row, tenant)) });
  const add = async (message: Buffer) => {
    const { errors = [] } = (await call("BatchObjects", message)) as { errors?: object[] };
    if (errors.length > 0) throw new Error(`Weaviate refused rows: ${JSON.stringify(errors[0])}`);
  };
  const search = async (message: object) => {
    const reply = await call("Search", grpc.encode("Weaviate/Search", message));
    const { results = [] } = reply as { results?: { metadata: { id: string } }[] };
    return results.map(({ metadata }) => metadata.id);
  };
  const { version } = await send<{ version: string }>("GET", "/v1/meta");

  const peer: Peer = {
    name: `Weaviate ${version}`,
    settings: "HNSW of float32, m 32, ef_construction 128; range filters of the property on",
    cpuMs: () => treeCpuMs(server.pid),
    async createCollection(name) {
      await send("POST", "/v1/schema", { ...toClass(name), ...HEADER });
    },
    async dropCollection(name) {
      await send("DELETE", `/v1/schema/${name}`);
    },
    prepareLoad(name, rows) {
      const messages = cut(rows, BATCH).map((batch) => encodeRows(name, batch));
      return () => runAll(messages.map((message) => () => add(message)));
    },
    // Rows are in the index when they are acknowledged (ASYNC_INDEXING is off by default).
    async awaitIndex(name, query) {
      await peer.search(name, query);
    },
    async setEf(name, ef) {
      const path = `/v1/schema/${name}`;
      const current = await send<{ vectorIndexConfig: object }>("GET", path);
      await send("PUT", path, { ...current, vectorIndexConfig: { ...current.vectorIndexConfig, ef } });
    },
    search: (name, query) => search(toSearch(name, query)),
    async insert(name, row) {
      await add(encodeRows(name, [row]));
    },
    async delete(name, id) {
      await send("DELETE", `/v1/objects/${name}/${id}`);
    },
    async deleteFrom(name, position) {
      const filters = toFilter("OPERATOR_GREATER_THAN_EQUAL", position);
      const message = grpc.encode("Weaviate/BatchDelete", { collection: name, filters });
      const { failed = 0 } = (await call("BatchDelete", message)) as { failed?: number };
      if (Number(failed) > 0) throw new Error(`Weaviate did not delete ${failed} rows.`);
    },
    async createTenants(groups) {
      const names = groups.map((_, number) => ({ name: `tenant${number}` }));
      await send("POST", "/v1/schema", {
        ...toClass(TENANTS),
        ...HEADER,
        multiTenancyConfig: { enabled: true },
      });
      await send("POST", `/v1/schema/${TENANTS}/tenants`, names);
      for (const [number, rows] of groups.entries())
        await add(encodeRows(TENANTS, rows, names[number]?.name));
    },
    searchTenant: (number, query) => search({ ...toSearch(TENANTS, query), tenant: `tenant${number}` }),
  };
  return peer;
}

/**
 * The environment of a server without a cluster, modules, telemetry and profiling. It never becomes ready unless the port
 * for Raft's RPCs is that after Raft's.
 */
function settingsOf(directory: string, ports: readonly number[]): Record<string, string | undefined> {
  const [gossip, data, raft, raftRpc] = ports.map(String) as [string, string, string, string];
  return {
    PATH: process.env["PATH"],
    PERSISTENCE_DATA_PATH: join(directory, "data"),
    AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED: "true",
    DISABLE_TELEMETRY: "true",
    GO_PROFILING_DISABLE: "true",
    LOG_LEVEL: "fatal",
    CLUSTER_HOSTNAME: "node1",
    CLUSTER_IN_LOCALHOST: "true",
    CLUSTER_BIND_ADDR: "127.0.0.1",
    CLUSTER_ADVERTISE_ADDR: "127.0.0.1",
    CLUSTER_GOSSIP_BIND_PORT: gossip,
    CLUSTER_DATA_BIND_PORT: data,
    RAFT_PORT: raft,
    RAFT_INTERNAL_RPC_PORT: raftRpc,
    RAFT_BOOTSTRAP_EXPECT: "1",
  };
}

function toClass(name: string): object {
  return { class: name, vectorizer: "none", vectorIndexConfig: { distance: "cosine" } };
}

function property(name: string, dataType: "text" | "int"): object {
  return { name, dataType: [dataType], indexRangeFilters: dataType === "int" };
}

function toObject(collection: string, { id, content, position, vector }: Row, tenant?: string): object {
  const fields = { content: { stringValue: content }, position: { numberValue: position } };
  return {
    uuid: id,
    collection,
    properties: { non_ref_properties: { fields } },
    vector_bytes: toBytes(vector),
    ...(tenant !== undefined && { tenant }),
  };
}

function toSearch(collection: string, { vector, below }: Query): object {
  return {
    collection,
    limit: RESULTS,
    uses_127_api: true,
    metadata: { uuid: true, distance: true },
    properties: { return_all_nonref_properties: true },
    near_vector: { vectors: [{ vector_bytes: toBytes(vector), type: "VECTOR_TYPE_SINGLE_FP32" }] },
    ...(below !== undefined && { filters: toFilter("OPERATOR_LESS_THAN", below) }),
  };
}

function toFilter(operator: string, position: number): object {
  return { operator, value_int: position, target: { property: "position" } };
}
