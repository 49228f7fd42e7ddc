import { Stream } from "node:stream";
import type pg from "pg";
import { errorType, isInSpan, startSpan, traceIds, type ActiveSpan } from "../../tracing.ts";

/** Arguments of a client's `query`, whose overloads are many. */
type Parameters = unknown[];

/** A query object that node-postgres submits as it is: `pg.Query` and those derived from it, and COPY streams. */
interface Submittable {
  submit: unknown;
  text: string;
  /** The statements that are sent before it. */
  earlierTexts?: readonly string[];
  callback?: (error: Error | null, result: unknown) => void;
}

/**
 * Sends a query by `send`, in a span of its own where the work that sends it has one. The span says what kind of
 * statement it is and of which table, never a value: not even the text, which may have literals. A statement that is
 * parsed each time anyway gets the ids of the span as a comment (sqlcommenter), so that the server's log and
 * pg_stat_activity lead to the trace; one that is prepared under a name does not, because its text must stay the same.
 */
export function tracedQuery(
  client: pg.Client & { readonly processID?: number | null },
  parameters: Parameters,
  send: (parameters: Parameters) => unknown,
): unknown {
  if (!isInSpan()) return send(parameters);
  const [query, ...rest] = parameters;
  const summary = summarize(query);
  const span = startSpan(summary.text, () => ({
    kind: "client",
    attributes: {
      "db.system.name": "postgresql",
      "db.namespace": client.database ?? "",
      "db.query.summary": summary.text,
      "db.operation.name": summary.operation,
      ...(summary.collection !== undefined && { "db.collection.name": summary.collection }),
      "server.address": client.host,
      "server.port": client.port,
      "pgquiver.backend_pid": client.processID ?? 0,
    },
  }));
  if (span === undefined) return send(parameters);
  const commented = span.run(() => comment(query));
  try {
    return sendIn(span, commented, rest, send);
  } catch (error) {
    endFailed(span, error);
    throw error;
  }
}

function sendIn(
  span: ActiveSpan,
  query: unknown,
  rest: Parameters,
  send: (all: Parameters) => unknown,
): unknown {
  const settle = (error: unknown) => {
    if (error === null || error === undefined) span.end();
    else endFailed(span, error);
  };
  if (isSubmittable(query)) {
    if (query instanceof Stream) query.once("error", settle).once("close", () => span.end());
    else {
      const { callback } = query;
      query.callback = (error, result) => {
        settle(error);
        callback?.(error, result);
      };
    }
    return send([query, ...rest]);
  }
  const last = rest.at(-1);
  if (typeof last === "function") {
    const done = (error: unknown, result: unknown) => {
      settle(error);
      (last as (error: unknown, result: unknown) => void)(error, result);
    };
    return send([query, ...rest.slice(0, -1), done]);
  }
  const sent = send([query, ...rest]) as Promise<unknown>;
  sent.then(() => span.end(), settle);
  return sent;
}

function endFailed(span: ActiveSpan, error: unknown): void {
  const type = errorType(error);
  if (/^[0-9A-Z]{5}$/.test(type)) span.set({ "db.response.status_code": type });
  span.end(type);
}

function isSubmittable(query: unknown): query is Submittable {
  return typeof query === "object" && query !== null && "submit" in query;
}

/** Adds the ids of the active span to the text of a statement without a name. */
function comment(query: unknown): unknown {
  const ids = traceIds();
  if (ids === undefined) return query;
  const added = ` /*traceparent='00-${ids.trace_id}-${ids.span_id}-01'*/`;
  if (typeof query === "string") return query === "" ? query : query + added;
  const statement = query as { text?: string; name?: string };
  if (typeof statement.text !== "string" || statement.name !== undefined) return query;
  if (!isSubmittable(query)) return { ...statement, text: statement.text + added };
  query.text += added;
  return query;
}

/** What a statement does, in few words of which there are few. */
interface Summary {
  text: string;
  operation: string;
  collection: string | undefined;
}

/** Summaries of texts; those of texts with literals come and go. */
const summaries = new Map<string, Summary>();
const SUMMARIES_MAX = 1_000;

function summarize(query: unknown): Summary {
  const texts = isSubmittable(query)
    ? [...(query.earlierTexts ?? []), query.text]
    : [typeof query === "string" ? query : String((query as { text?: string }).text)];
  const text = texts.join("; ");
  let summary = summaries.get(text);
  if (summary === undefined) {
    summary = read(text);
    if (summaries.size >= SUMMARIES_MAX) summaries.clear();
    if (text.length < 10_000) summaries.set(text, summary);
  }
  return summary;
}

/** Statements that frame others. */
const FRAME = /^(?:begin|commit|lock|set|savepoint|release|rollback|select set_config)\b/i;
/** A table, which all statements of the service quote, and what they name for this statement only is not. */
const TABLE = /\b(?:from|join|into|update|copy|table)\s+(?:only\s+)?"([^"]+)"/gi;
/** Tables that a summary names. */
const TABLES_MAX = 4;

function read(text: string): Summary {
  const statements = text.split(/;\s+/).map((statement) => statement.trim());
  const main = statements.find((statement) => !FRAME.test(statement)) ?? statements[0] ?? "";
  const first = /^\w+/.exec(main)?.[0].toUpperCase() ?? "QUERY";
  // What is said after WITH is what is done.
  const operation =
    first === "WITH"
      ? (/\b(insert|update|delete|merge)\b/i.exec(main)?.[1]?.toUpperCase() ?? "SELECT")
      : first;
  const found = FRAME.test(main) ? [] : Array.from(main.matchAll(TABLE), ([, table]) => table as string);
  const tables = [...new Set(found)].slice(0, TABLES_MAX);
  const collection = tables.length === 1 ? tables[0] : undefined;
  return { text: [operation, ...tables].join(" "), operation, collection };
}
