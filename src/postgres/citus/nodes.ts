import type { Client } from "../database.ts";

/** What is to be known of a node of a cluster. */
export interface NodeState {
  /** Version of pgvector; null: it is not installed. */
  pgvector: string | null;
  /** `hnsw.ef_search` of the service's role. */
  efSearch: string | null;
  /** `max_prepared_transactions`. */
  prepared: number;
  /** Transactions that have been prepared for more than ten seconds. */
  inDoubt: number;
  /** `output_plugin_libraries`; null: the server has no such setting. */
  plugins: string | null;
  /** `citus.recover_2pc_interval` in milliseconds. */
  recoveryMs: number;
  /** `citus.node_conninfo`; null: the role may not see it. */
  conninfo: string | null;
}

/** What a node, by its host and port, holds of own tables. */
export interface NodeShare {
  name: string;
  shards: number;
  bytes: number;
}

/** What each node that takes shards holds of all distributed tables of the database, ordered by name. */
export async function readShares(client: Client): Promise<NodeShare[]> {
  const { rows } = await client.query<NodeShare>(
    `select nodename || ':' || nodeport as name, count(shardid)::int as shards, coalesce(sum(shard_size), 0)::float8 as bytes
     from pg_dist_node left join (select * from citus_shards where citus_table_type = 'distributed') as held using (nodename, nodeport)
     where isactive and shouldhaveshards and noderole = 'primary' group by 1 order by 1`,
  );
  return rows;
}

const STATE = `select json_build_object(
    'pgvector', (select extversion from pg_extension where extname = 'vector'),
    'efSearch', current_setting('hnsw.ef_search', true),
    'prepared', current_setting('max_prepared_transactions')::int,
    'inDoubt', (select count(*) from pg_prepared_xacts where database = current_database() and prepared < now() - interval '10 s'),
    'plugins', current_setting('output_plugin_libraries', true),
    'recoveryMs', (select setting::int from pg_settings where name = 'citus.recover_2pc_interval'),
    'conninfo', (select setting from pg_settings where name = 'citus.node_conninfo'))`;

/** The state of the coordinator and of each active worker; of a worker that cannot be asked, the error. */
export async function readNodes(
  client: Client,
): Promise<{ here: NodeState; nodes: { name: string; state?: NodeState; error?: string }[] }> {
  const own = await client.query<{ state: NodeState }>(`${STATE} as state`);
  const { rows } = await client.query<{
    nodename: string;
    nodeport: number;
    success: boolean;
    result: string;
  }>("select nodename, nodeport, success, result from run_command_on_workers($1)", [STATE]);
  const nodes = rows.map(({ nodename, nodeport, success, result }) => {
    const name = `${nodename}:${nodeport}`;
    return success ? { name, state: JSON.parse(result) as NodeState } : { name, error: result };
  });
  return { here: own.rows[0]?.state as NodeState, nodes };
}
