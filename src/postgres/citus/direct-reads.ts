import pg from "pg";
import type { Client, Database } from "../database.ts";
import { isFaultOfRead, isUndefinedTable } from "../errors.ts";
import { cancellable } from "../transaction.ts";
import type { ShardPlace } from "./shards.ts";
import { WorkerNode } from "./worker-node.ts";

/**
 * How a read of a table on nodes went: `direct`, to its worker; else through the coordinator: `coordinator` = no read of this
 * table goes directly, which is not one shard on a worker; `unreachable` = the worker gives no connection, or was not tried
 * yet; `moved` = the shard is not where it was; `failed` = the worker refused the statement.
 */
export type Way = "direct" | "coordinator" | "unreachable" | "moved" | "failed";

/** Workers that a process has pools for at the same time; reads of tables on further ones go through the coordinator. */
const NODES_MAX = 256;
/** How long the coordinator has to tell what server it reaches at a node's address. */
const IDENTIFY_MS = 5_000;

/** What is told of direct reads. */
interface Listener {
  counted: (way: Way) => void;
  /** Reads begin to go to a node, by its name, or cease to, with the reason. */
  changed: (node: string, problem: string | undefined) => void;
}

/** Reads that go to the workers of a cluster without the coordinator, with a pool for each worker. */
export class DirectReads {
  readonly #probe: Database["probe"];
  readonly #open: NonNullable<Database["openServer"]>;
  readonly #listener: Listener;
  readonly #nodes = new Map<string, WorkerNode>();
  /** Ends with the last question to the coordinator: they are asked one at a time, since `probe` has few connections. */
  #asked: Promise<unknown> = Promise.resolve();
  #isStopped = false;

  /** Undefined when workers cannot be reached with what is known of the database: its URL is a PgBouncer's. */
  static open({ probe, openServer }: Database, listener: Listener): DirectReads | undefined {
    return openServer === undefined ? undefined : new DirectReads(probe, openServer, listener);
  }

  private constructor(
    probe: Database["probe"],
    open: NonNullable<Database["openServer"]>,
    listener: Listener,
  ) {
    this.#probe = probe;
    this.#open = open;
    this.#listener = listener;
  }

  /**
   * Reads a shard, by its place, on its worker. Returns the way to be taken instead when that cannot be done; throws what the
   * coordinator would throw as well, and the signal's reason.
   */
  async read<T>(
    place: ShardPlace,
    signal: AbortSignal,
    work: (client: Client) => Promise<T>,
  ): Promise<{ value: T } | Exclude<Way, "direct">> {
    const node = this.#find(place);
    if (node?.isReady(() => this.#identify(place)) !== true) return "unreachable";
    try {
      return { value: await node.read(signal, work) };
    } catch (error) {
      if (signal.aborted || isFaultOfRead(error)) throw error;
      if (isUndefinedTable(error)) return "moved";
      return node.isLoss(error) ? "unreachable" : "failed";
    }
  }

  /** Counts a read by its way. */
  count(way: Way): void {
    this.#listener.counted(way);
  }

  /** Closes the pools of nodes that are none any more. */
  keep(nodes: ReadonlySet<string>): void {
    for (const [name, node] of this.#nodes) {
      if (nodes.has(name)) continue;
      this.#nodes.delete(name);
      void node.close();
    }
  }

  /** Closes all pools; reads go through the coordinator. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all([...this.#nodes.values()].map((node) => node.close()));
  }

  #find({ host, port }: ShardPlace): WorkerNode | undefined {
    const name = `${host}:${port}`;
    const known = this.#nodes.get(name);
    if (known !== undefined || this.#isStopped || this.#nodes.size >= NODES_MAX) return known;
    const node = new WorkerNode(this.#open, { host, port }, (problem) =>
      this.#listener.changed(name, problem),
    );
    this.#nodes.set(name, node);
    return node;
  }

  /** The system identifier of the server at which the coordinator reads a table. */
  async #identify({ table }: ShardPlace): Promise<string> {
    const ask = () =>
      cancellable(this.#probe, AbortSignal.timeout(IDENTIFY_MS), async (client) => {
        // Citus passes the statement on to the worker as it is, since it has one shard.
        const { rows } = await client.query<{ identifier: string }>(
          `select system_identifier::text as identifier
           from pg_control_system(), (select count(*) from (select from only ${pg.escapeIdentifier(table)} limit 1) as one) as counted`,
        );
        return rows[0]?.identifier ?? "";
      });
    const asked = this.#asked.then(ask, ask);
    this.#asked = asked.catch(() => {});
    return asked;
  }
}
