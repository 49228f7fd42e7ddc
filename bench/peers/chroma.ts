import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { connectRest } from "../support/clients.ts";
import { startProcess } from "../support/process.ts";
import { treeCpuMs } from "./cpu.ts";
import { awaitAnswer, cut, findFreePorts, RESULTS, runAll, toBytes, type Peer, type Row } from "./peer.ts";

const ROOT = "/api/v2/tenants/default_tenant/databases/default_database/collections";
/** Rows of a request; the server takes 5,461 at most. */
const BATCH = 1_000;
/** The candidate list of a new collection. */
const EF_DEFAULT = 100;

/**
 * Starts Chroma's server, and talks to it as its Python client does: JSON over HTTP/1.1, vectors of rows in base64, those
 * of queries as numbers.
 */
export async function startChroma(
  command: string,
  directory: string,
  stack: AsyncDisposableStack,
): Promise<Peer> {
  mkdirSync(directory);
  const [port] = (await findFreePorts(1)) as [number];
  const address = `127.0.0.1:${port}`;
  const start = async () => {
    const args = ["run", "--host", "127.0.0.1", "--port", String(port), "--path", join(directory, "data")];
    const env = { PATH: process.env["PATH"], HOME: directory, ANONYMIZED_TELEMETRY: "False" };
    const started = stack.use(
      startProcess(command, args, { cwd: directory, env, stdio: ["ignore", "ignore", "inherit"] }),
    );
    await awaitAnswer(`http://${address}/api/v2/heartbeat`, started);
    return started;
  };
  let server = await start();
  let http = connectRest({ address, key: "" });
  stack.defer(() => http[Symbol.dispose]());
  const send = async <Reply>(method: string, path: string, body?: object): Promise<Reply> => {
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return JSON.parse((await http.send(method, path, bytes)).toString()) as Reply;
  };
  const ids = new Map<string, string>();
  const efs = new Map<string, number>();
  const pathOf = (name: string) => `${ROOT}/${ids.get(name)}`;

  const peer: Peer = {
    name: "Chroma",
    settings: "HNSW of float32, m 16, ef_construction 100; SQLite",
    cpuMs: () => treeCpuMs(server.pid),
    async createCollection(name) {
      const configuration = { hnsw: { space: "cosine" } };
      const { id } = await send<{ id: string }>("POST", ROOT, { name, configuration });
      ids.set(name, id);
    },
    async dropCollection(name) {
      await send("DELETE", `${ROOT}/${name}`);
    },
    prepareLoad(name, rows) {
      const bodies = cut(rows, BATCH).map((batch) => Buffer.from(JSON.stringify(toColumns(batch))));
      return () => runAll(bodies.map((body) => () => http.post(`${pathOf(name)}/add`, body)));
    },
    // A search first applies the log of writes to the index.
    async awaitIndex(name, query) {
      await peer.search(name, query);
    },
    // An index that is loaded keeps its candidate list, so the server is started again.
    async setEf(name, ef) {
      if (ef === (efs.get(name) ?? EF_DEFAULT)) return;
      await send("PUT", pathOf(name), { new_configuration: { hnsw: { ef_search: ef } } });
      http[Symbol.dispose]();
      await server[Symbol.asyncDispose]();
      server = await start();
      http = connectRest({ address, key: "" });
      efs.set(name, ef);
    },
    async search(name, { vector, below }) {
      const { ids: found } = await send<{ ids: [string[]] }>("POST", `${pathOf(name)}/query`, {
        query_embeddings: [[...vector]],
        n_results: RESULTS,
        include: ["metadatas", "documents", "distances"],
        ...(below !== undefined && { where: { position: { $lt: below } } }),
      });
      return found[0];
    },
    async insert(name, row) {
      await send("POST", `${pathOf(name)}/add`, toColumns([row]));
    },
    async delete(name, id) {
      await send("POST", `${pathOf(name)}/delete`, { ids: [id] });
    },
    async deleteFrom(name, position) {
      await send("POST", `${pathOf(name)}/delete`, { where: { position: { $gte: position } } });
    },
    async createTenants(groups) {
      for (const [number, rows] of groups.entries()) {
        await peer.createCollection(`tenant_${number}`);
        await peer.prepareLoad(`tenant_${number}`, rows)();
      }
    },
    searchTenant: (number, query) => peer.search(`tenant_${number}`, query),
  };
  return peer;
}

function toColumns(rows: readonly Row[]): object {
  return {
    ids: rows.map(({ id }) => id),
    embeddings: rows.map(({ vector }) => toBytes(vector).toString("base64")),
    documents: rows.map(({ content }) => content),
    metadatas: rows.map(({ position }) => ({ position })),
  };
}
