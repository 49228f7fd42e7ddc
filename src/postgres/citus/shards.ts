import type { Client, Queryable, ServerAddress } from "../database.ts";

/** How long a process goes on with what it has read of a table's shards. */
const KNOWN_MS = 60_000;
/** Tables whose shards a process knows; beyond it forgets the one that it has known for longest. */
const TABLES_MAX = 10_000;
/** The longest name that Citus makes of a table's and a shard's number without shortening it. */
const NAME_BYTES_MAX = 63;

/** Where the only shard of a table is. */
export interface ShardPlace extends ServerAddress {
  /** The table, and the shard as its worker knows it; both names are not quoted. */
  table: string;
  shard: string;
  /** The placement, and the version of its row in `pg_dist_placement` and of its node's in `pg_dist_node`: their xmin. */
  placementId: string;
  placementVersion: string;
  nodeVersion: string;
}

/** What is known of a table's shards. */
export interface TableShards {
  isSplit: boolean;
  /** Undefined: there are several shards, or placements of it, or it is on the coordinator. */
  place: ShardPlace | undefined;
}

interface ShardRow {
  shardId: string;
  place: Omit<ShardPlace, "table" | "shard">;
  group: number;
  nodes: string[];
}

/** The shards of own tables. */
export class KnownShards {
  readonly #known = new Map<string, TableShards & { until: number }>();
  readonly #onNodes: (nodes: ReadonlySet<string>) => void;

  /** `onNodes` is given the hosts and ports of all nodes whenever a table's shards are read. */
  constructor(onNodes: (nodes: ReadonlySet<string>) => void = () => {}) {
    this.#onNodes = onNodes;
  }

  /** The shards of a table, by its name that is not quoted; up to a minute old. */
  async find(queryable: Queryable, table: string): Promise<TableShards> {
    return this.peek(table) ?? this.#read(queryable, table);
  }

  /** What is known of a table's shards; undefined: nothing, or it is older than a minute. */
  peek(table: string): TableShards | undefined {
    const known = this.#known.get(table);
    return known === undefined || known.until <= performance.now() ? undefined : known;
  }

  /** Forgets a table: its shard is not where it was. */
  forget(table: string): void {
    this.#known.delete(table);
  }

  /** Forgets for a minute where the shard of a table is: its worker refuses to read it. */
  hide(table: string): void {
    const known = this.#known.get(table);
    this.#keep(table, { isSplit: known?.isSplit === true, place: undefined });
  }

  async #read(queryable: Queryable, table: string): Promise<TableShards> {
    const { rows } = await queryable.query<ShardRow>({
      name: "find_shards",
      text: `select shard.shardid::text as "shardId", node.groupid as group,
          json_build_object('host', node.nodename, 'port', node.nodeport, 'placementId', placement.placementid::text,
            'placementVersion', placement.xmin::text, 'nodeVersion', node.xmin::text) as place,
          array(select nodename || ':' || nodeport from pg_dist_node where isactive and noderole = 'primary') as nodes
        from pg_dist_shard as shard join pg_dist_placement as placement using (shardid)
        join pg_dist_node as node on node.groupid = placement.groupid and noderole = 'primary'
        where logicalrelid = to_regclass(quote_ident($1))`,
      values: [table],
    });
    const [first] = rows;
    if (first !== undefined) this.#onNodes(new Set(first.nodes));
    const shards = {
      isSplit: new Set(rows.map(({ shardId }) => shardId)).size > 1,
      place: rows.length === 1 && first !== undefined ? toPlace(table, first) : undefined,
    };
    this.#keep(table, shards);
    return shards;
  }

  #keep(table: string, shards: TableShards): void {
    this.#known.delete(table);
    this.#known.set(table, { ...shards, until: performance.now() + KNOWN_MS });
    const [oldest] = this.#known.keys();
    if (this.#known.size > TABLES_MAX && oldest !== undefined) this.#known.delete(oldest);
  }
}

/** The place of a shard on a worker; the coordinator is the node of group 0. */
function toPlace(table: string, { shardId, group, place }: ShardRow): ShardPlace | undefined {
  const shard = `${table}_${shardId}`;
  return group === 0 || Buffer.byteLength(shard) > NAME_BYTES_MAX ? undefined : { table, shard, ...place };
}

/**
 * SQL condition that a shard's placement is, in the statement's snapshot, what it was when its place was read, and that its
 * node has the address of then. Then it was so all the time in between: each move gives the shard another placement, and each
 * change of a row another xmin. `bind` adds a value of a type to the statement.
 */
export function isPlaced(place: ShardPlace, bind: (value: unknown, type: string) => string): string {
  return `exists (select from pg_dist_placement as placement join pg_dist_node as node using (groupid)
    where placement.placementid = ${bind(place.placementId, "bigint")} and placement.xmin::text = ${bind(place.placementVersion, "text")}
      and node.xmin::text = ${bind(place.nodeVersion, "text")} and noderole = 'primary')`;
}

/** Runs reads under settings that reach every node: of Citus's commands only SET LOCAL in a transaction block does. */
export async function withSettingsOnNodes<T>(
  client: Client,
  settings: Record<string, number>,
  read: () => Promise<T>,
): Promise<T> {
  const set = Object.entries(settings).map(([name, value]) => `set local ${name} = ${value}`);
  await client.query("begin");
  try {
    // One by one: Citus sends the whole text that a SET LOCAL is part of.
    for (const command of ["set local citus.propagate_set_commands = 'local'", ...set])
      await client.query(command);
    const result = await read();
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback").catch(() => {});
    throw error;
  }
}
