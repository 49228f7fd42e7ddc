import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { unavailable } from "../../errors.ts";

/** How long a commit waits for its in-doubt transactions to be resolved, and the pause between tries. */
const RESOLVE_MS = 5_000;
const PAUSE_MS = 200;

/** The fields of a notice that are read here. */
interface NoticeFields {
  code?: string | undefined;
  routine?: string | undefined;
}

/** Function of Citus that warns when a node has not answered its COMMIT or COMMIT PREPARED. */
const COMMIT_FAILED = "FinishRemoteTransactionCommit";

/** SQLSTATE of a notice that is no warning. */
const SUCCESSFUL = "00000";

/**
 * Runs `commit`, which sends COMMIT. On a Citus cluster the transaction of another node may stay in doubt when that node
 * fails during two-phase commit: it is prepared there and committed here, so its rows will be visible, but are not yet.
 * Citus only warns of it. An acknowledged row must be visible, so this resolves the transaction first (COMMIT PREPARED),
 * and throws DATABASE_UNAVAILABLE when the node stays away.
 */
export async function commitWithoutDoubt<T>(client: pg.PoolClient, commit: () => Promise<T>): Promise<T> {
  let isInDoubt = false;
  const listen = ({ routine }: NoticeFields) => {
    isInDoubt ||= routine === COMMIT_FAILED;
  };
  client.on("notice", listen);
  try {
    const result = await commit();
    if (isInDoubt) await resolveInDoubt(client);
    return result;
  } finally {
    client.off("notice", listen);
  }
}

/**
 * Completes the transactions that are in doubt on nodes of the cluster. Throws DATABASE_UNAVAILABLE when a node cannot be
 * asked for its prepared transactions.
 */
export async function resolveInDoubt(client: pg.PoolClient): Promise<void> {
  const until = performance.now() + RESOLVE_MS;
  for (;;) {
    let isResolved = true;
    let cause: unknown;
    const listen = ({ code }: NoticeFields) => {
      isResolved &&= code === SUCCESSFUL;
    };
    client.on("notice", listen);
    try {
      await client.query("select recover_prepared_transactions()");
    } catch (error) {
      // The coordinator's session may have kept a connection to the node from before it failed.
      isResolved = false;
      cause = error;
    } finally {
      client.off("notice", listen);
    }
    if (isResolved) return;
    if (performance.now() >= until)
      throw unavailable(
        "DATABASE_UNAVAILABLE",
        "The change is committed, but a node of the database's cluster that is to show it cannot be reached.",
        { retryAfterMs: 1000, cause },
      );
    await delay(PAUSE_MS);
  }
}
