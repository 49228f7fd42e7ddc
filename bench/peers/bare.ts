import { join } from "node:path";
import type { Readable } from "node:stream";
import { orderedExpression } from "../../src/filters/sql.ts";
import { connectGrpc } from "../support/clients.ts";
import type { BenchDatabase } from "../support/database.ts";
import { startProcess } from "../support/process.ts";
import { readAddress } from "../support/server.ts";
import { backendsCpuMs, treeCpuMs } from "./cpu.ts";
import { composeNearest } from "./floor.ts";
import { RESULTS, type Query } from "./peer.ts";
import { tenantOf, toInsertion, toSearch, type Pgquiver } from "./pgquiver.ts";
import type { Bounded, Subject } from "./workload.ts";

/** The statements of the bare server. */
export interface Statements {
  /** The store whose own table `nearest` and `filtered` read. */
  storeId: string;
  nearest: string;
  /** $2 is the number that `position` must be below. */
  filtered: string;
  /** $2 is the id of a store in the shared table. */
  small: string;
  /** $1 to $5 are the store's id, the row's id, its text, its vector and its metadata. */
  insert: string;
  /** $1 and $2 are the ids of the store and of the row. */
  delete: string;
}

/**
 * The bound of a service in Node: a server that does nothing but what a call over gRPC cannot do without (see
 * bare-server.ts), called as pgquiver is, with a collection of pgquiver. Rows that it writes are not counted, so pgquiver must
 * not use the collection any more.
 */
export async function startBare(
  database: BenchDatabase,
  id: string,
  pgquiver: Pgquiver,
  stack: AsyncDisposableStack,
): Promise<Subject<Bounded>> {
  const child = stack.use(
    startProcess(process.execPath, [join(import.meta.dirname, "bare-server.ts")], {
      cwd: import.meta.dirname,
      env: { DATABASE_URL: database.url, STATEMENTS: JSON.stringify(await composeStatements(database, id)) },
      stdio: ["ignore", "pipe", "inherit"],
    }),
  );
  const grpc = stack.use(connectGrpc({ address: await readAddress(child.output as Readable), key: "" }));
  const send = async (rpc: string, message: object) =>
    grpc.decode(rpc, await grpc.send(rpc, grpc.encode(rpc, message)));
  let efSearch = 0;
  const search = async (store: string, query: Query) => {
    const reply = await send("SearchService/Search", { ...toSearch(store, query), ef_search: efSearch });
    return (reply as { data?: { id: string }[] }).data?.map(({ id: found }) => found) ?? [];
  };
  return {
    name: "bare Node (bound)",
    collection: id,
    peer: {
      cpuMs: () => treeCpuMs(child.pid) + backendsCpuMs(database.url),
      async setEf(_, ef) {
        efSearch = ef;
      },
      search,
      async insert(_, row) {
        await send("EmbeddingService/CreateEmbedding", toInsertion(id, row));
      },
      prepareLoad: (_, rows) => pgquiver.prepareLoad(id, rows),
      async delete(_, row) {
        await send("EmbeddingService/DeleteEmbedding", { vector_store_id: id, embedding_id: row });
      },
      searchTenant: (number, query) => search(tenantOf(number), query),
    },
  };
}

async function composeStatements(database: BenchDatabase, id: string): Promise<Statements> {
  const { table, nearest, compose } = await composeNearest(database, id);
  const position = orderedExpression("metadata", "'position'", "number");
  return {
    storeId: id,
    nearest,
    filtered: compose(`${position} < $2`),
    small: `select id, content, metadata, embedding <=> $1 as distance from only embeddings
      where vector_store_id = $2 order by distance limit ${RESULTS}`,
    insert: `insert into ${table} (vector_store_id, id, content, embedding, metadata) values ($1, $2, $3, $4, $5)`,
    delete: `delete from ${table} where vector_store_id = $1 and id = $2`,
  };
}
