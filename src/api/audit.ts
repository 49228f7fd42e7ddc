import { getOption, hasOption, ScalarType, type DescField, type DescMethod } from "@bufbuild/protobuf";
import { http } from "../../gen/google/api/annotations_pb.ts";
import { audit, audited, Scope } from "../../gen/pgquiver/v1/options_pb.ts";
import { scopeOf } from "./scope.ts";

/** An entry of the audit log. */
export interface AuditEntry {
  id: string;
  /** When it happened. */
  at: Date;
  /** Empty: the caller could not be identified. */
  projectId: string;
  event: string;
  /** Id of the key; null: the caller could not be identified, or needed none. */
  actorId: string | null;
  resourceId: string | null;
  /** Ids and values of the request. */
  data: Record<string, unknown>;
  /** "ok", or the error's gRPC code in lower case. */
  outcome: string;
  /** Attempts that the entry stands for. */
  count: number;
  address: string;
  forwardedFor: string | null;
  userAgent: string | null;
  requestId: string;
  rpc: string;
  protocol: string;
}

/** How the calls of an RPC are recorded. */
export interface AuditRule {
  /** The type of the event. */
  event: string;
  /** Whether the RPC administers or deletes: its calls are always recorded, and before they are acknowledged. */
  isAct: boolean;
  /** Whether the event is about what the call makes, whose id is in the reply. */
  isCreation: boolean;
  /** The field of the request with the id of what the event is about. */
  resource: DescField | undefined;
  /** The other fields of the request that are recorded. */
  data: readonly DescField[];
}

/** Scopes whose RPCs administer, unless they only read. */
const ADMINISTRATIVE: ReadonlySet<Scope> = new Set([
  Scope.STORES_WRITE,
  Scope.INDEXES_ADMIN,
  Scope.PROJECTS_ADMIN,
  Scope.OPERATOR,
]);
const DELETES = /^(?:Delete|Purge|Erase|Archive|Revoke)/;

/**
 * Returns how the calls of an RPC are recorded, as its proto declares. Throws when an RPC that deletes or administers
 * declares nothing.
 */
export function auditOf(method: DescMethod): AuditRule {
  const rule = hasOption(method, http) ? getOption(method, http).pattern : undefined;
  const isAct = hasOption(method, audit);
  const isRead = rule?.case === "get" || /^(?:Get|List)/.test(method.name);
  const mustBe = DELETES.test(method.name) || rule?.case === "delete";
  if (!isAct && (mustBe || (!isRead && ADMINISTRATIVE.has(scopeOf(method)))))
    throw new Error(
      `${method.toString()} deletes or administers: add option (pgquiver.v1.audit) to its proto`,
    );
  const event = isAct ? getOption(method, audit) : snakeCase(method.name);
  const isCreation = event.endsWith(".created");
  const template = typeof rule?.value === "string" ? rule.value : "";
  const ids = [...template.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
  const inPath = ids.map((name) => method.input.fields.find((field) => field.name === name));
  const fields = inPath.filter((field) => field !== undefined);
  const resource = isCreation ? undefined : fields.pop();
  const more = method.input.fields.filter((field) => hasOption(field, audited) && getOption(field, audited));
  return { event, isAct, isCreation, resource, data: [...fields, ...more] };
}

function snakeCase(name: string): string {
  return name.replace(/(?<=[a-z0-9])(?=[A-Z])/g, "_").toLowerCase();
}

/** Most characters of a text, and items of a list, in an entry. */
const TEXT_CHARS_MAX = 512;
const ITEMS_MAX = 1_000;

/** Reads the value of a field for the audit log; undefined: it is unset. */
export function auditedValue(field: DescField, value: unknown): unknown {
  if (field.fieldKind === "list" && field.listKind === "scalar" && field.scalar === ScalarType.STRING)
    return (value as string[]).slice(0, ITEMS_MAX).map(storableText);
  if (typeof value === "string") return storableText(value);
  return typeof value === "bigint" ? Number(value) : value;
}

/** Shortens a caller's text, and replaces what Postgres cannot store: NUL and lone surrogates. */
export function storableText(text: string): string {
  return text.slice(0, TEXT_CHARS_MAX).toWellFormed().replaceAll("\0", "\u{fffd}");
}
