import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  ListAuditLogsResponseSchema,
  type AuditService,
  type ListAuditLogsRequest,
} from "../../gen/pgquiver/v1/audit_pb.ts";
import { checkRange } from "../api/checks.ts";
import { positionOfIdentifier, readPage, readPosition, toPage } from "../api/page.ts";
import { principal, type Principal } from "../api/principal.ts";
import type { Database } from "../postgres/database.ts";
import { isStorable } from "../postgres/text.ts";
import { DEFAULT_PROJECT } from "../store-id.ts";
import { toAuditLog } from "./reply.ts";
import { listEntries, type AuditFilter } from "./rows.ts";

/** Implements AuditService. */
export function auditService({ pool, tables }: Database): ServiceImpl<typeof AuditService> {
  return {
    async listAuditLogs(request, { values }) {
      const page = readPage(request);
      // The position is in the id: an entry that the retention has deleted is a cursor still.
      const find = async (id: string) => positionOfIdentifier(id);
      const after = await readPosition(request.after, "after", find, "audit log");
      const before = await readPosition(request.before, "before", find, "audit log");
      const filter = readFilter(request, values.get(principal));
      const rows = await listEntries(pool, tables, { ...page, after, before }, filter);
      return create(ListAuditLogsResponseSchema, toPage(page, rows, toAuditLog));
    },
  };
}

function readFilter(request: ListAuditLogsRequest, { project }: Principal): AuditFilter {
  const { gt, gte, lt, lte } = request.effectiveAt ?? {};
  // Replies have whole seconds, so later than a second is from the next one on.
  const froms = [readSecond("gt", gt, 1), readSecond("gte", gte, 0)].filter((second) => second !== undefined);
  const untils = [readSecond("lt", lt, 0), readSecond("lte", lte, 1)].filter(
    (second) => second !== undefined,
  );
  const asked = readList(request.projectIds);
  const own = asked?.filter((id) => id === project) ?? [project];
  return {
    from: froms.length === 0 ? undefined : Math.max(...froms),
    until: untils.length === 0 ? undefined : Math.min(...untils),
    projectIds: project === DEFAULT_PROJECT ? asked : own,
    events: readList(request.eventTypes),
    actorIds: readList(request.actorIds),
    resourceIds: readList(request.resourceIds),
  };
}

/** The last second of the year 9999. */
const SECOND_MAX = 253_402_300_799;

function readSecond(bound: string, seconds: bigint | undefined, added: number): number | undefined {
  if (seconds === undefined) return undefined;
  checkRange(`effective_at.${bound}`, Number(seconds), 0, SECOND_MAX);
  return Number(seconds) + added;
}

/** Values that nothing can have, because Postgres cannot store them, are left out. */
function readList(values: readonly string[]): readonly string[] | undefined {
  return values.length === 0 ? undefined : values.filter(isStorable);
}
