import type { Client, Database } from "../postgres/database.ts";
import { queryWithSettings } from "../postgres/protocol/with-settings.ts";
import { cancellable } from "../postgres/transaction.ts";
import type { WorkContext } from "./context.ts";

/** Time between two looks at the sizes of all shards, for which each node is asked, and the pause after a failed split. */
const LOOK_MS = 60_000;
const RETRY_MS = 3_600_000;

/** A shard that is too large. */
interface LargeShard {
  shard: string;
  table: string;
  /** The last hash value that the first of its halves gets. */
  middle: string;
  /** The node that has the shard, and the others, those whose shards have the fewest bytes first. */
  from: number;
  others: number[];
}

/**
 * Splits shards of own tables on a Citus cluster that have grown beyond a size, one at a time, into two halves on different
 * nodes. Citus copies the shard by logical replication while it is read and written, builds its indexes again, and blocks
 * its writers for the last moment.
 *
 * No half is made on the shard's own node: there Citus makes the primary key of the half after it has begun to note changes,
 * so the first deletion fails for want of a replica identity (Citus 14.0.1: "publisher did not send replica identity
 * column"), and the split never ends. Where there is only one other node, a half moves back afterwards.
 */
export class ShardSplitter {
  readonly #shardBytes: number;
  #nextAt = 0;

  /** `shardBytes` 0: nothing is split. */
  constructor(shardBytes: number) {
    this.#shardBytes = shardBytes;
  }

  /** Splits the largest shard, when it is too large and the last look is long enough ago. */
  async look({ database, pool, signal }: WorkContext): Promise<void> {
    if (this.#shardBytes === 0 || database.citus?.distributes !== true) return;
    if (performance.now() < this.#nextAt) return;
    this.#nextAt = performance.now() + RETRY_MS;
    const large = await cancellable(pool, signal, async (client) => {
      const found = await findLargest(client, database, this.#shardBytes);
      if (found !== undefined) await split(client, found);
      return found;
    });
    this.#nextAt = large === undefined ? performance.now() + LOOK_MS : 0;
  }
}

/** The largest shard beyond a size, of the tables that searches use; undefined also where there is no second node. */
async function findLargest(
  client: Client,
  { tables }: Database,
  shardBytes: number,
): Promise<LargeShard | undefined> {
  const { rows } = await client.query<LargeShard>(
    `with placed as (
       select shardid, table_name, nodeid, shard_size from citus_shards join pg_dist_node using (nodename, nodeport)
       where citus_table_type = 'distributed'),
     nodes as (
       select node.nodeid, coalesce(sum(shard_size), 0) as bytes from pg_dist_node as node left join placed using (nodeid)
       where isactive and shouldhaveshards and noderole = 'primary' group by 1)
     select shardid::text as shard, table_name::text as table, ((shardminvalue::bigint + shardmaxvalue::bigint) / 2)::text as middle,
       placed.nodeid as from, array(select nodes.nodeid from nodes where nodes.nodeid <> placed.nodeid order by bytes, nodes.nodeid) as others
     from placed join pg_dist_shard using (shardid)
     where shard_size > $1 and shardminvalue::bigint < shardmaxvalue::bigint
       and table_name in (select to_regclass(quote_ident(own_table)) from ${tables.vectorStores} where own_table is not null)
     order by shard_size desc limit 1`,
    [shardBytes],
  );
  const [largest] = rows;
  return largest === undefined || largest.others.length === 0 ? undefined : largest;
}

async function split(client: Client, { shard, table, middle, from, others }: LargeShard): Promise<void> {
  const [first, second = first] = others;
  const run = (text: string, values: unknown[]) =>
    queryWithSettings(client, { text, values }, { lock_timeout: 0 });
  // What a split that was interrupted has left behind, such as replication slots.
  await client.query("call citus_cleanup_orphaned_resources()");
  await run(
    "select citus_split_shard_by_split_points($1, array[$2], array[$3::int, $4::int], 'force_logical')",
    [shard, middle, first, second],
  );
  if (first !== second) return;
  await run(
    `select citus_move_shard_placement(shardid, $3::int, $4::int, 'force_logical') from pg_dist_shard
     where logicalrelid = $1::regclass and shardminvalue::bigint = $2::bigint + 1`,
    [table, middle, first, from],
  );
}
