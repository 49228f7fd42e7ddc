import { join } from "node:path";
import type { Readable } from "node:stream";
import { connectGrpc } from "../support/clients.ts";
import type { BenchDatabase } from "../support/database.ts";
import { startProcess } from "../support/process.ts";
import { readAddress } from "../support/server.ts";
import { backendsCpuMs, treeCpuMs } from "./cpu.ts";
import { composeNearest } from "./floor.ts";
import { toSearch } from "./pgquiver.ts";
import type { Searched } from "./workload.ts";

/**
 * The bound of a service in Node: a server that does nothing but what a search over gRPC cannot do without (see
 * bare-server.ts), called as pgquiver is.
 */
export async function startBare(
  database: BenchDatabase,
  id: string,
  stack: AsyncDisposableStack,
): Promise<Searched> {
  const child = stack.use(
    startProcess(process.execPath, [join(import.meta.dirname, "bare-server.ts")], {
      cwd: import.meta.dirname,
      env: { DATABASE_URL: database.url, STATEMENT: await composeNearest(database, id) },
      stdio: ["ignore", "pipe", "inherit"],
    }),
  );
  const grpc = stack.use(connectGrpc({ address: await readAddress(child.output as Readable), key: "" }));
  const rpc = "SearchService/Search";
  let efSearch = 0;
  return {
    name: "bare Node (bound)",
    collection: id,
    peer: {
      cpuMs: () => treeCpuMs(child.pid) + backendsCpuMs(database.url),
      async setEf(_, ef) {
        efSearch = ef;
      },
      async search(_, query) {
        const request = grpc.encode(rpc, { ...toSearch(id, query), ef_search: efSearch });
        const { data = [] } = grpc.decode(rpc, await grpc.send(rpc, request)) as { data?: { id: string }[] };
        return data.map(({ id: found }) => found);
      },
    },
  };
}
