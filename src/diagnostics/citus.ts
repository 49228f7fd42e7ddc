import { readNodes, readShares, type NodeState } from "../postgres/citus/nodes.ts";
import { SEARCH_SETTINGS } from "../postgres/search-settings.ts";
import { formatBytes, ok, type Finding, type Subject } from "./finding.ts";

/** `citus.recover_2pc_interval` up to which rows of a transaction in doubt are invisible for a bearable time. */
const RECOVERY_MS_MAX = 5_000;

/** Age in seconds from which a prepared transaction is in doubt, rather than being committed. */
const IN_DOUBT_SECONDS = 10;

/** Checks the nodes of a Citus cluster, and that it resolves transactions in doubt. */
export async function checkCitus({ client, database }: Subject): Promise<Finding[]> {
  if (database.citus === undefined)
    return ok("Large stores' tables are in this database, not in a Citus cluster.");
  const { here, nodes } = await readNodes(client);
  const findings = nodes.flatMap((node) => lookAt(node, here));
  if (here.recoveryMs < 0 || here.recoveryMs > RECOVERY_MS_MAX) {
    const message = `After a node fails in a commit, rows stay invisible for up to ${here.recoveryMs / 1000} s (citus.recover_2pc_interval).`;
    const remedy = `On the coordinator: alter system set citus.recover_2pc_interval = '${RECOVERY_MS_MAX / 1000}s'; select pg_reload_conf();`;
    findings.push({ severity: "warning", message, remedy });
  }
  if (here.conninfo !== null && !here.conninfo.includes("tcp_user_timeout"))
    findings.push({
      severity: "notice",
      message:
        "When the network to a node drops all packets, sessions of the coordinator wait for it for minutes (citus.node_conninfo has no tcp_user_timeout).",
      remedy: `On each node: alter system set citus.node_conninfo = '${here.conninfo} tcp_user_timeout=5000 keepalives_idle=5 keepalives_interval=2 keepalives_count=3'; select pg_reload_conf();`,
    });
  // The sizes of shards on a node that cannot be asked are unknown.
  if (nodes.some(({ state }) => state === undefined)) return findings;
  const shares = (await readShares(client)).map(
    ({ name, shards, bytes }) => `${name} ${shards} (${formatBytes(bytes)})`,
  );
  const order = findings.length > 0 ? "" : `All ${nodes.length} nodes of the Citus cluster are in order. `;
  return [...findings, ...ok(`${order}Shards of stores' tables: ${shares.join(", ")}.`)];
}

function lookAt(
  { name, state, error }: { name: string; state?: NodeState; error?: string },
  here: NodeState,
): Finding[] {
  if (state === undefined) {
    const message = `The node ${name} cannot be asked: ${error}. Stores on it cannot be searched or written.`;
    return [{ severity: "error", message, remedy: "Start the node." }];
  }
  const findings: Finding[] = [];
  if (state.pgvector !== here.pgvector)
    findings.push({
      severity: "warning",
      message: `The node ${name} has pgvector ${state.pgvector ?? "of no version"}, the coordinator ${here.pgvector}.`,
      remedy:
        "Install the same version on all nodes, then on the coordinator: alter extension vector update;",
    });
  if (state.prepared === 0)
    findings.push({
      severity: "error",
      message: `The node ${name} has max_prepared_transactions = 0, so no transaction can be committed on it.`,
      remedy: "Set it to the number of connections that the node takes, and restart the node.",
    });
  if (state.inDoubt > 0)
    findings.push({
      severity: "warning",
      message: `${state.inDoubt} transactions of the node ${name} have been in doubt for more than ${IN_DOUBT_SECONDS} s: their rows cannot be seen, and they hold locks.`,
      remedy: "On the coordinator: select recover_prepared_transactions();",
    });
  const efSearch = String(SEARCH_SETTINGS["hnsw.ef_search"]);
  if (state.efSearch !== efSearch)
    findings.push({
      severity: "warning",
      message: `On the node ${name} hnsw.ef_search is ${state.efSearch}, so searches there find less.`,
      remedy:
        "Restart the service, which sets it for its role, or set it there by: alter role … set hnsw.ef_search.",
    });
  // Servers without the setting load every plugin.
  if (state.plugins !== null && !/\bcitus\b/.test(state.plugins))
    findings.push({
      severity: "notice",
      message: `The node ${name} does not load the output plugin of Citus, so shards cannot be moved or split under writes.`,
      remedy: "alter system set output_plugin_libraries = citus, pgoutput; select pg_reload_conf();",
    });
  return findings;
}
