import type pg from "pg";
import { nameBlocker, type Blocker } from "../postgres/blockers.ts";
import { findHorizonBlockers, isOld } from "../postgres/horizon.ts";
import { cancellable } from "../postgres/transaction.ts";
import type { Metrics } from "../wire/metrics.ts";
import { remember } from "./remember.ts";

/** Timeout of the query, and how long its result is cached: a scrape must not load the database. */
const TIMEOUT_MS = 2_000;
const AGE_MS = 10_000;

/** Registers the gauges of what holds vacuum and index builds back. */
export function monitorBlockers(metrics: Metrics, pool: pg.Pool): void {
  const blockers = remember(AGE_MS, () =>
    cancellable(pool, AbortSignal.timeout(TIMEOUT_MS), findHorizonBlockers),
  );
  metrics.addGauge(
    "pgquiver_oldest_transaction_age_seconds",
    "Age of the oldest transaction, open or prepared, that holds vacuum and index builds back; 0: none. Without pg_read_all_stats: of this role's.",
    async () => ageOfOldest(await blockers()),
    { across: "first" },
  );
  metrics.addGauge(
    "pgquiver_vacuum_blocker_transactions",
    "How many transaction ids ago vacuum is held back to, by transactions older than a minute and by replication slots that are inactive or far behind.",
    async () =>
      Object.fromEntries(
        (await blockers()).filter(isOld).map((one) => [nameBlocker(one), one.transactions ?? 0]),
      ),
    { label: "blocker", across: "first" },
  );
}

/** Undefined when there are transactions and no age is visible. */
function ageOfOldest(blockers: readonly Blocker[]): number | undefined {
  const open = blockers.filter(({ kind }) => kind === "transaction" || kind === "prepared_transaction");
  const ages = open.flatMap(({ age_seconds: age }) => (age === null ? [] : [age]));
  return open.length > 0 && ages.length === 0 ? undefined : Math.max(0, ...ages);
}
