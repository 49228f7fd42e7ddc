import { describeBlocker, endBlocker, type Blocker } from "../postgres/blockers.ts";
import { findHorizonBlockers, isOld } from "../postgres/horizon.ts";
import { findingsOr, type Finding, type Subject } from "./finding.ts";
import { readRole } from "./settings.ts";

/** A transaction that has been open for longer than this is a warning. */
const WARNING_SECONDS = 3_600;

const VACUUM = "vacuum cannot remove rows deleted since";

const CONSEQUENCES: Record<Blocker["kind"], string> = {
  transaction: `${VACUUM}, and index builds wait for it`,
  prepared_transaction: `${VACUUM}, and index builds wait for it`,
  standby: VACUUM,
  physical_slot: VACUUM,
  logical_slot: "vacuum cannot clean the system catalogs since",
};

/**
 * Names transactions, prepared transactions and replication slots that hold back the xmin horizon: vacuum and
 * index builds then do nothing, without an error.
 */
export async function checkBlockers(subject: Subject): Promise<Finding[]> {
  const blockers = await findHorizonBlockers(subject.client);
  const findings = blockers.filter(isOld).map((blocker): Finding => {
    const { kind, age_seconds: age, transactions } = blocker;
    // The service's own sessions, by their application_name: see postgres/connection/pool.ts.
    const isOwn = kind === "transaction" && blocker.name.startsWith("pgquiver");
    const isSevere = !isOwn && (kind !== "transaction" || (age ?? 0) >= WARNING_SECONDS);
    return {
      severity: isSevere ? "warning" : "notice",
      message: `${describeBlocker(blocker)} holds an xmin of ${(transactions ?? 0).toLocaleString("en")} transactions ago: ${CONSEQUENCES[kind]}.`,
      remedy: isOwn
        ? "It is pgquiver's own, such as an index build or an all-or-nothing ingest: wait for its end."
        : `If it is not needed: ${endBlocker(blocker)}`,
    };
  });
  const hidden = blockers.filter(({ kind, state }) => kind === "transaction" && state === null).length;
  if (hidden > 0) {
    findings.push({
      severity: "notice",
      message: `The age of ${hidden} transactions of other roles is not visible to this role.`,
      remedy: `grant pg_read_all_stats to ${await readRole(subject)};`,
    });
  }
  return findingsOr(
    findings,
    "No old transaction or unused replication slot holds vacuum and index builds back.",
  );
}
