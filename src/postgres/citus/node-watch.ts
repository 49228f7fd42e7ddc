import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { isCancelled, nodeUnreachable } from "../errors.ts";
import { queryWithSettings } from "../protocol/with-settings.ts";

/** Work that takes longer makes the watch ask the nodes that hold its table, again after each further such time. */
const SUSPICIOUS_MS = 2_000;
/** How long a node has for its answer, and the pause before a node that gave none is asked again. */
const ASK_TIMEOUT_MS = 2_000;
const ASK_PAUSE_MS = 1_000;

interface Node {
  nodename: string;
  nodeport: number;
}

const nameOf = ({ nodename, nodeport }: Node): string => `${nodename}:${nodeport}`;

/** A pool of the coordinator of a cluster. */
export interface NodePool {
  /** Absent: the database is not the coordinator of a cluster. */
  nodes?: NodeWatch;
}

/**
 * A circuit breaker for the nodes of a cluster. When the network to a node drops all packets, the coordinator waits for the
 * node's answer, and after a cancel request still waits, in the attempt to cancel the statement on the node: each call would
 * take its whole time limit, and leave a backend of the coordinator behind, until none is left for the stores on other
 * nodes. So the watch asks the nodes of work that takes long for a new connection. From the first node that does not answer
 * on, work on its tables ends with DATABASE_UNAVAILABLE, and further work is refused at once, until the node answers.
 */
export class NodeWatch {
  readonly #probe: pg.Pool;
  readonly #tasks = new Set<NodeTask>();
  readonly #away = new Map<string, Node>();
  readonly #suspected = new Set<string>();
  #isAsking = false;

  /** `probe` is asked for one connection at a time. */
  constructor(probe: pg.Pool) {
    this.#probe = probe;
  }

  /** Begins work that may use a table on nodes. Dispose of it when the work has ended. */
  begin(): NodeTask {
    const task = new NodeTask({
      end: () => this.#tasks.delete(task),
      suspect: (table) => this.#suspect(table),
      check: async (table) => {
        if (this.#away.size > 0 && (await this.#isAway(table))) throw nodeUnreachable();
      },
    });
    this.#tasks.add(task);
    return task;
  }

  #suspect(table: string): void {
    this.#suspected.add(table);
    if (!this.#isAsking) void this.#askAll();
  }

  /** Asks the nodes of suspected tables, one after the other, and goes on with those that do not answer. */
  async #askAll(): Promise<void> {
    this.#isAsking = true;
    try {
      while (this.#suspected.size > 0 || this.#away.size > 0) {
        const nodes = new Map(this.#away);
        for (const table of this.#suspected)
          for (const node of await this.#nodesOf(table)) nodes.set(nameOf(node), node);
        this.#suspected.clear();
        for (const [name, node] of nodes) {
          if (await this.#answers(node)) this.#away.delete(name);
          else this.#away.set(name, node);
        }
        if (this.#away.size === 0) continue;
        await this.#stopTasks();
        await delay(ASK_PAUSE_MS, undefined, { ref: false });
      }
    } catch {
      // The coordinator itself cannot be asked, so nothing is known of the nodes.
      this.#suspected.clear();
      this.#away.clear();
    } finally {
      this.#isAsking = false;
    }
  }

  async #stopTasks(): Promise<void> {
    const tables = new Set([...this.#tasks].map(({ table }) => table).filter((table) => table !== null));
    for (const table of tables) {
      if (!(await this.#isAway(table))) continue;
      for (const task of this.#tasks) if (task.table === table) task.stop(nodeUnreachable());
    }
  }

  async #isAway(table: string): Promise<boolean> {
    return (await this.#nodesOf(table)).some((node) => this.#away.has(nameOf(node)));
  }

  /** The nodes that hold a table, by its name that is not quoted; none of a table of the coordinator. */
  async #nodesOf(table: string): Promise<Node[]> {
    const { rows } = await this.#probe.query<Node>(
      `select distinct nodename, nodeport from pg_dist_shard join pg_dist_placement using (shardid) join pg_dist_node using (groupid)
       where logicalrelid = to_regclass(quote_ident($1)) and noderole = 'primary'`,
      [table],
    );
    return rows;
  }

  /** Whether the coordinator gets a new connection to a node; true of a node that is none any more. */
  async #answers({ nodename, nodeport }: Node): Promise<boolean> {
    const client = await this.#probe.connect();
    const asked = queryWithSettings<{ answers: boolean }>(
      client,
      {
        text: `select citus_check_connection_to_node(nodename, nodeport) as answers from pg_dist_node
          where nodename = $1 and nodeport = $2 and isactive`,
        values: [nodename, nodeport],
      },
      { statement_timeout: ASK_TIMEOUT_MS },
    );
    const late = new AbortController();
    try {
      return await Promise.race([
        asked.then(({ rows }) => rows[0]?.answers ?? true),
        // A backend whose node falls silent after the connection was made ends no statement any more.
        delay(ASK_TIMEOUT_MS + ASK_PAUSE_MS, false, { ref: false, signal: late.signal }),
      ]);
    } catch (error) {
      if (isCancelled(error)) return false;
      throw error;
    } finally {
      late.abort();
      // The backend keeps its connection to the node, and a new one is to be tried the next time.
      client.release(true);
    }
  }
}

interface TaskEvents {
  end: () => void;
  suspect: (table: string) => void;
  check: (table: string) => Promise<void>;
}

/** Work that may use a table on nodes of a cluster. */
export class NodeTask implements Disposable {
  readonly #events: TaskEvents;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #table: string | null = null;

  constructor(events: TaskEvents) {
    this.#events = events;
  }

  /** The own table that the work uses, not quoted; null: none yet, or the shared one. */
  get table(): string | null {
    return this.#table;
  }

  /** Aborts with DATABASE_UNAVAILABLE when a node of the table does not answer. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Tells which own table the work uses from now on. Throws DATABASE_UNAVAILABLE when a node of it does not answer. */
  async uses(table: string | null): Promise<void> {
    this.#table = table;
    if (table === null) return;
    this.#timer ??= setInterval(
      () => this.#table !== null && this.#events.suspect(this.#table),
      SUSPICIOUS_MS,
    );
    await this.#events.check(table);
  }

  stop(reason: Error): void {
    this.#stop.abort(reason);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#events.end();
  }
}

/** A signal that aborts with either; `signal` itself where there is no cluster. */
export function withNodes(
  signal: AbortSignal | undefined,
  task: NodeTask | undefined,
): AbortSignal | undefined {
  if (task === undefined) return signal;
  return signal === undefined ? task.signal : AbortSignal.any([signal, task.signal]);
}

/** Runs `work` in an own table, by its name that is not quoted, with a signal that aborts when a node of it is silent. */
export async function onNodes<T>(
  { nodes }: pg.Pool & NodePool,
  table: string | null,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (nodes === undefined || table === null) return work(signal);
  using task = nodes.begin();
  await task.uses(table);
  return await work(AbortSignal.any([signal, task.signal]));
}
