import { callbackify } from "node:util";
import type pg from "pg";
import type { Database, Replicas } from "../database.ts";
import { withClient } from "../transaction.ts";
import { currentProject, currentSignal, takePlace } from "./call.ts";
import { restrictClient } from "./client.ts";

/** The role that calls run under; undefined: row-level security is off, or not on yet. */
export interface CallRole {
  readonly role: string | undefined;
}

/**
 * Returns the database as calls may use it: each connection that it gives out is restricted to the project of the running
 * call, and to nothing for work that runs `asService`; a call whose project or key has a share of the pool waits for a
 * place first. A single statement is cancelled when the caller leaves. `probe` and `direct`, which no call uses, stay as they are.
 */
export function restrictToCalls(database: Database, security: CallRole): Database {
  const { replicas } = database;
  return {
    ...database,
    pool: restrictPool(database.pool, security),
    ...(replicas !== undefined && { replicas: restrictReplicas(replicas, security) }),
  };
}

function restrictPool(pool: pg.Pool, security: CallRole): pg.Pool {
  const connect = async (): Promise<pg.PoolClient> => {
    const project = currentProject();
    const client = await connectInPlace(pool);
    const { role } = security;
    return role === undefined || project === undefined ? client : restrictClient(client, { role, project });
  };
  const query = async (...parameters: Parameters<pg.PoolClient["query"]>) =>
    withClient(
      { connect },
      currentSignal(),
      async (client) => client.query(...parameters) as unknown as Promise<unknown>,
    );
  const callback = (done: (error: unknown, client?: pg.PoolClient) => void) => callbackify(connect)(done);
  // Everything else, such as its options and its counts, is the pool's own.
  return new Proxy(pool, {
    get(target, name) {
      if (name === "query") return query;
      if (name === "connect")
        return (done?: Parameters<typeof callback>[0]) => (done ? callback(done) : connect());
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** Checks a client out of the pool when the call has a place for it, and returns the place when the client is released. */
async function connectInPlace(pool: pg.Pool): Promise<pg.PoolClient> {
  const taking = takePlace(pool.options);
  if (taking === undefined) return pool.connect();
  using place = new DisposableStack();
  place.use(await taking);
  const client = await pool.connect();
  const held = place.move();
  const release = client.release.bind(client);
  client.release = (destroy) => {
    held.dispose();
    release(destroy);
  };
  return client;
}

function restrictReplicas(replicas: Replicas, security: CallRole): Replicas {
  const restricted = new WeakMap<Database, Database>();
  const restrict = (replica: Database) => {
    const known = restricted.get(replica) ?? restrictToCalls(replica, security);
    restricted.set(replica, known);
    return known;
  };
  return {
    ...replicas,
    choose() {
      const replica = replicas.choose();
      return (
        replica && {
          run: async (read, signal) => replica.run(async (one, fit) => read(restrict(one), fit), signal),
        }
      );
    },
  };
}
