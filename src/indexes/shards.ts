import type { Queryable } from "../postgres/database.ts";
import { nodeUnreachable } from "../postgres/errors.ts";
import type { IndexStatus } from "./status.ts";

/** What a node of a cluster, by its host and port, says of a shard of a store's own table. */
interface ShardStatus {
  node: string;
  index_bytes: number;
  total_bytes: number;
  other_index_bytes: number;
  building: {
    phase: string;
    blocks_done: number;
    blocks_total: number;
    tuples_done: number;
    tuples_total: number;
  } | null;
}

/**
 * Replaces the sizes and the progress in the status of a distributed own table, which the coordinator does not know, by
 * those of its shards, and adds the nodes that hold them. Throws DATABASE_UNAVAILABLE when a node cannot be asked.
 */
export async function addShards(client: Queryable, status: IndexStatus): Promise<IndexStatus> {
  const { own_table: table, current_index: current } = status;
  if (table === null) return status;
  // %1$s is the shard's name. Its indexes have the names of the table's, with the shard's number appended.
  const index = `${current?.name ?? ""}_`.replaceAll("'", "''");
  const command = `select json_build_object('total_bytes', pg_total_relation_size('%1$s'),
      'index_bytes', (select coalesce(sum(pg_relation_size(oid)), 0) from sizes where amname = 'hnsw' and starts_with(relname, '${index}')),
      'other_index_bytes', (select coalesce(sum(pg_relation_size(oid)), 0) from sizes where amname <> 'hnsw'),
      'building', (select to_json(building) from pg_stat_progress_create_index as building where relid = '%1$s'::regclass limit 1))`;
  const sizes = `with sizes as (select pg_class.oid, relname, amname from pg_index join pg_class on pg_class.oid = indexrelid
      join pg_am on pg_am.oid = relam where indrelid = '%1$s'::regclass)`;
  const { rows } = await client.query<{ node: string; success: boolean; result: string }>(
    "select nodename || ':' || nodeport as node, success, result from run_command_on_placements($1::regclass, $2)",
    [`"${table}"`, `${sizes} ${command}`],
  );
  const failed = rows.find(({ success }) => !success);
  if (failed !== undefined) throw nodeUnreachable(new Error(failed.result));
  const shards = rows.map(({ node, result }): ShardStatus => ({ node, ...JSON.parse(result) }));
  const sum = (of: (shard: ShardStatus) => number) =>
    shards.reduce((total, shard) => total + Number(of(shard)), 0);
  const indexBytes = sum((shard) => shard.index_bytes);
  return {
    ...status,
    index_bytes: String(indexBytes),
    table_bytes: String(sum((shard) => shard.total_bytes) - indexBytes),
    other_index_bytes: String(sum((shard) => shard.other_index_bytes)),
    ...toProgress(shards, status),
    nodes: groupByNode(shards),
  };
}

function groupByNode(shards: readonly ShardStatus[]): IndexStatus["nodes"] {
  const groups = Object.entries(Object.groupBy(shards, ({ node }) => node));
  return groups
    .map(([name, held = []]) => ({
      name,
      shards: held.length,
      bytes: held.reduce((total, shard) => total + Number(shard.total_bytes), 0),
    }))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

function toProgress(
  shards: readonly ShardStatus[],
  status: IndexStatus,
): Pick<IndexStatus, "progress" | "work"> {
  const building = shards.map((shard) => shard.building).find((found) => found !== null);
  if (status.work !== null || building === undefined) return { progress: status.progress, work: status.work };
  const { phase, blocks_done, blocks_total, tuples_done, tuples_total } = building;
  const unit = blocks_total > 0 ? "blocks" : "tuples";
  const [done, total] = unit === "blocks" ? [blocks_done, blocks_total] : [tuples_done, tuples_total];
  const isBuilding = phase.startsWith("building index") && blocks_total > 0;
  return { progress: isBuilding ? done / total : null, work: { phase, unit, done, total } };
}
