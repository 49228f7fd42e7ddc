import pg from "pg";
import { queryWithSettings, QueryWithSettings, type Settings } from "../protocol/with-settings.ts";

/** The role and the project of the call that has checked out a client. */
export interface Restriction {
  role: string;
  project: string;
}

/** The setting that the policies compare rows with. */
export const PROJECT_SETTING = "pgquiver.project";

/**
 * A client whose transactions can be restricted to one project: while `restriction` is set, each runs under a role that
 * the policies of policies.ts apply to. Role and project are set for the transaction alone, in the round trip of its
 * first statement, so they hold behind a PgBouncer too, which gives the next transaction another backend.
 */
export class RestrictableClient extends pg.Client {
  restriction: Restriction | undefined;
  /** Whether a statement that was prepared is there for the next transaction. */
  protected readonly keepsNames: boolean = true;

  // As in unnamed-client.ts: the arguments are passed on unchanged.
  override query(...parameters: never[]): never {
    const { restriction } = this;
    const isRestricted = restriction !== undefined && this.getTransactionStatus() === "I";
    if (!isRestricted)
      return super.query(...(parameters as unknown as Parameters<pg.Client["query"]>)) as never;
    return this.#restrict(
      toSettings(restriction),
      ...(parameters as unknown as [Query, unknown[]?]),
    ) as never;
  }

  #restrict(settings: Settings, query: Query, values?: unknown[]): unknown {
    if (typeof query === "string" && isBegin(query)) return super.query(beginWith(settings, query));
    // After a BEGIN that failed together with what was sent with it, the status is not known yet.
    if (typeof query === "string" && /^(?:rollback|commit)\b/.test(query)) return super.query(query);
    if (typeof query === "object" && "submit" in query) {
      if (!isRestrictable(query)) throw new Error("A statement of this kind must be in a transaction.");
      query.restrict(settings);
      return super.query(query as unknown as pg.Submittable);
    }
    const config = typeof query === "string" ? { text: query } : query;
    const statement = { ...config, values: values ?? config.values ?? [] };
    return queryWithSettings({ query: (sent) => super.query(sent) }, statement, settings, this.keepsNames);
  }
}

/** Restricts a client that was checked out, until it is released. */
export function restrictClient(client: pg.PoolClient, restriction: Restriction): pg.PoolClient {
  const restricted = client as pg.PoolClient & RestrictableClient;
  restricted.restriction = restriction;
  const release = client.release.bind(client);
  client.release = (destroy) => {
    restricted.restriction = undefined;
    release(destroy);
  };
  return client;
}

/** Runs a step of a call's transaction that only the owner of the tables may do, such as DROP TABLE. */
export async function asOwner<T>(client: pg.PoolClient, step: () => Promise<T>): Promise<T> {
  const { restriction } = client as pg.PoolClient & RestrictableClient;
  if (restriction === undefined) return step();
  await client.query("set local role none");
  const result = await step();
  await client.query(`set local role ${pg.escapeIdentifier(restriction.role)}`);
  return result;
}

type Query = string | pg.QueryConfig | pg.Submittable;

/** A statement that can be made to run under settings. */
export interface Restrictable {
  restrict(settings: Settings): void;
}

function isRestrictable(query: object): query is Restrictable {
  return query instanceof QueryWithSettings || "restrict" in query;
}

function toSettings({ role, project }: Restriction): Settings {
  return { role, [PROJECT_SETTING]: project };
}

function isBegin(text: string): boolean {
  return /^begin\b/.test(text);
}

/** The text of a query that begins a transaction, with the settings after its first statement. */
function beginWith(settings: Settings, text: string): string {
  const calls = Object.entries(settings).map(
    ([name, value]) => `set_config(${pg.escapeLiteral(name)}, ${pg.escapeLiteral(String(value))}, true)`,
  );
  return text.replace(/^[^;]+/, (begin) => `${begin}; select ${calls.join(", ")}`);
}
