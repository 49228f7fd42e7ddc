import pg from "pg";
import { vi } from "vitest";
import { databaseUrl } from "./template.ts";
import { citusUrls } from "./citus.ts";

/** A node of the cluster of TEST_CITUS_URL, as an administrator uses it. */
export class ClusterNode {
  readonly #url: string;

  constructor(url: string, database: string) {
    this.#url = databaseUrl(url, database);
  }

  /** Runs a statement on a connection of its own. */
  async query<Row extends pg.QueryResultRow>(text: string): Promise<Row[]> {
    const client = new pg.Client(this.#url);
    client.on("error", () => {});
    await client.connect();
    try {
      return (await client.query<Row>(text)).rows;
    } finally {
      await client.end().catch(() => {});
    }
  }

  /** Runs a statement in a transaction that stays open until the result is disposed of. */
  async hold(text: string): Promise<AsyncDisposable> {
    const client = new pg.Client(this.#url);
    client.on("error", () => {});
    await client.connect();
    await client.query("begin");
    await client.query(text);
    return { [Symbol.asyncDispose]: () => client.end() };
  }

  /**
   * Kills a backend (SIGKILL). The server cannot know what state the shared memory is in, so it ends all sessions and
   * recovers from its log, as after a crash. Resolves when it answers again. The node must be a process of this machine.
   */
  async crash(): Promise<void> {
    const victim = new pg.Client(this.#url);
    victim.on("error", () => {});
    await victim.connect();
    const { rows } = await victim.query<{ pid: number }>("select pg_backend_pid() as pid");
    // Not `once`, which rejects at the error that comes first.
    const ended = new Promise((resolve) => victim.once("end", resolve));
    process.kill(rows[0]?.pid as number, "SIGKILL");
    await ended;
    await vi.waitFor(() => this.query("select 1"), { timeout: 60_000, interval: 50 });
  }

  /** Crashes while commits are held; after it they are held no more. */
  async releaseAfterCrash(): Promise<void> {
    // Without a reload: the commits that are held must not go on before the crash.
    await this.query("alter system reset synchronous_standby_names");
    await this.crash();
    await this.releaseCommits();
  }

  /** Makes every COMMIT and PREPARE TRANSACTION wait after it is on disk, for a standby that does not exist. */
  async holdCommits(): Promise<void> {
    await this.#set("alter system set synchronous_standby_names = 'nobody'", "nobody");
  }

  /** Lets what `holdCommits` holds go on. */
  async releaseCommits(): Promise<void> {
    await this.#set("alter system reset synchronous_standby_names", "");
  }

  /** Waits until a session waits for that standby. */
  async untilHeld(): Promise<void> {
    await vi.waitFor(
      async () => {
        const [row] = await this.query<{ count: number }>(
          "select count(*)::int as count from pg_stat_activity where wait_event = 'SyncRep' and datname = current_database()",
        );
        if (row?.count === 0) throw new Error("No session waits for the standby.");
      },
      { timeout: 60_000, interval: 20 },
    );
  }

  async #set(statement: string, value: string): Promise<void> {
    const client = new pg.Client(this.#url);
    client.on("error", () => {});
    await client.connect();
    try {
      await client.query(statement);
      await client.query("select pg_reload_conf()");
      await vi.waitFor(
        async () => {
          const { rows } = await client.query<{ value: string }>(
            "select current_setting('synchronous_standby_names') as value",
          );
          if (rows[0]?.value !== value) throw new Error("The setting has not arrived.");
        },
        { timeout: 60_000, interval: 20 },
      );
    } finally {
      await client.end();
    }
  }
}

/** The nodes of the cluster that a database of TEST_CITUS_URL is of. */
export function clusterNodes(url: string): { coordinator: ClusterNode; workers: ClusterNode[] } {
  const urls = citusUrls();
  if (urls === undefined) throw new Error("TEST_CITUS_URL is not set.");
  const name = new URL(url).pathname.slice(1);
  return {
    coordinator: new ClusterNode(urls.coordinator, name),
    workers: urls.workers.map((worker) => new ClusterNode(worker, name)),
  };
}
