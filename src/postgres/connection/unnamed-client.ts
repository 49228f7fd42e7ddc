import { RestrictableClient } from "../row-security/client.ts";
import { tracedQuery } from "./traced-query.ts";

/**
 * A client that never names its prepared statements, for PgBouncer in transaction mode. PgBouncer assigns a
 * backend per transaction: a named statement may already exist on one backend (42P05) and be missing on
 * another (26000). An unnamed statement is parsed, bound and executed before a single Sync, so all of its
 * messages reach the same backend.
 */
export class UnnamedClient extends RestrictableClient {
  protected override readonly keepsNames = false;

  // `never` is assignable to the parameters of every overload in node-postgres; the arguments are passed on
  // unchanged.
  override query(...parameters: never[]): never {
    const [first, ...rest] = parameters as unknown[];
    const isNamed = typeof first === "object" && first !== null && !("submit" in first) && "name" in first;
    const query = isNamed ? { ...first, name: undefined } : first;
    return tracedQuery(this, [query, ...rest], (all) => super.query(...(all as never[]))) as never;
  }
}
