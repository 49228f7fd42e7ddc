import { create, type JsonObject } from "@bufbuild/protobuf";
import { AuditLogSchema, type AuditLog } from "../../gen/pgquiver/v1/audit_pb.ts";
import { toSeconds } from "../api/time.ts";
import type { AuditRow } from "./rows.ts";

/** Converts a row of the audit log to the API's message. */
export function toAuditLog(row: AuditRow): AuditLog {
  const data = Object.keys(row.data).length === 0 ? {} : { data: row.data };
  return create(AuditLogSchema, {
    id: row.id,
    object: "organization.audit_log",
    type: row.event,
    effectiveAt: toSeconds(row.created_at),
    ...(row.project_id !== "" && { project: { id: row.project_id } }),
    ...(row.actor_id !== null && {
      actor: {
        type: "api_key",
        apiKey: { id: row.actor_id, type: "service_account", serviceAccount: { id: row.actor_id } },
      },
    }),
    details: { ...(row.resource_id !== null && { id: row.resource_id }), ...data } as JsonObject,
    outcome: row.outcome,
    count: row.count,
    ipAddress: row.address,
    ...(row.forwarded_for !== null && { forwardedFor: row.forwarded_for }),
    ...(row.user_agent !== null && { userAgent: row.user_agent }),
    requestId: row.request_id,
    rpc: row.rpc,
    protocol: row.protocol,
  });
}
