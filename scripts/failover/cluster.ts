import pg from "pg";

/** A cluster made of servers of this machine, one of which has a standby. */
export interface Cluster {
  /** The database's URL for the service: with both hosts when the coordinator has the standby. */
  serviceUrl: string;
  standbyUrl: string;
  /** Transactions that the standby has ended. */
  countSearches: () => Promise<number>;
  /** Runs a statement on the coordinator of the moment. */
  query: <Row extends pg.QueryResultRow>(text: string, values?: unknown[]) => Promise<Row[]>;
  /** The port of the node that is killed. */
  port: number;
  /** Waits until the standby streams; with `isSynchronous`, commits of the node wait for it from then on. */
  replicate: (isSynchronous: boolean) => Promise<void>;
  /** Stops the standby from receiving. */
  cutStandby: () => Promise<void>;
  /** Kills the node's server (SIGKILL). */
  kill: () => Promise<void>;
  promote: () => Promise<void>;
  /** Tells the coordinator that the node is where the standby was. */
  update: () => Promise<void>;
  /** Drops the databases of the servers that are left. */
  close: () => Promise<void>;
}

/** Makes a database on each server, and the nodes known to the first. The standby gets it by replication. */
export async function makeCluster(
  urls: readonly string[],
  standbyUrl: string,
  number: number,
): Promise<Cluster> {
  const name = `failover_${Date.now()}`;
  const inside = (url: string) => Object.assign(new URL(url), { pathname: `/${name}` }).href;
  await createNodes(urls, name, inside);
  const coordinator = inside(urls[0] ?? "");
  const node = urls[number] ?? "";
  const standby = inside(standbyUrl);
  const [former, latter] = [new URL(node), new URL(standbyUrl)];
  let current = coordinator;
  return {
    serviceUrl:
      number === 0 ? coordinator.replace(former.host, `${former.host},${latter.host}`) : coordinator,
    standbyUrl: standby,
    async countSearches() {
      const [row] = await run<{ count: number }>(
        standby,
        "select xact_commit::int as count from pg_stat_database where datname = current_database()",
      );
      return row?.count ?? 0;
    },
    query: (text, values) => run(current, text, values),
    port: Number(former.port),
    async replicate(isSynchronous) {
      await run(node, `alter system set synchronous_standby_names = '${isSynchronous ? "*" : ""}'`);
      await run(node, "select pg_reload_conf()");
      const state = isSynchronous ? "sync_state = 'sync'" : "state = 'streaming'";
      await until(node, `select count(*) > 0 as is from pg_stat_replication where ${state}`);
    },
    async cutStandby() {
      await run(standbyUrl, "alter system set primary_conninfo = ''");
      await run(standbyUrl, "select pg_reload_conf()");
      await until(standbyUrl, "select count(*) = 0 as is from pg_stat_wal_receiver");
    },
    async kill() {
      const [row] = await run<{ pid: number }>(
        node,
        "select split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int as pid",
      );
      process.kill(row?.pid as number, "SIGKILL");
    },
    async promote() {
      await run(standbyUrl, "select pg_promote(true, 60)");
      if (number === 0) current = standby;
    },
    async update() {
      await run(
        current,
        `select citus_update_node(nodeid, ${addressOf(standby)}, true, 1000) from pg_dist_node where nodeport = ${former.port}`,
      );
    },
    async close() {
      for (const url of [...urls, standbyUrl])
        await run(url, `drop database if exists ${name} with (force)`).catch(() => {});
    },
  };
}

async function createNodes(
  urls: readonly string[],
  name: string,
  inside: (url: string) => string,
): Promise<void> {
  for (const url of urls) {
    await run(url, `create database ${name}`);
    await run(inside(url), "create extension vector; create extension citus");
  }
  const [coordinator = "", ...workers] = urls.map(inside);
  await run(coordinator, `select citus_set_coordinator_host(${addressOf(coordinator)})`);
  for (const worker of workers) await run(coordinator, `select citus_add_node(${addressOf(worker)})`);
}

function addressOf(url: string): string {
  return `'${new URL(url).hostname}', ${new URL(url).port}`;
}

async function until(url: string, sql: string): Promise<void> {
  for (let tries = 0; tries < 300; tries++) {
    const [row] = await run<{ is: boolean }>(url, sql).catch(() => []);
    if (row?.is === true) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`Never true: ${sql}`);
}

async function run<Row extends pg.QueryResultRow>(
  url: string,
  text: string,
  values?: unknown[],
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => {});
  await client.connect();
  try {
    const result = await client.query<Row>(text, values);
    return result.rows;
  } finally {
    await client.end().catch(() => {});
  }
}
