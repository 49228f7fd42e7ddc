import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  Atomicity,
  IngestEventSchema,
  IngestSummarySchema,
  type IngestEvent,
  type IngestFinish,
  type IngestRequest,
  type IngestService,
} from "../../gen/pgquiver/v1/ingest_pb.ts";
import type { ByteBudget } from "../api/byte-budget.ts";
import { checkRange } from "../api/checks.ts";
import { Messages } from "../api/message-reader.ts";
import type { ReceivedIngest } from "../api/received-ingest.ts";
import { readPage, readPosition } from "../api/page.ts";
import { principal } from "../api/principal.ts";
import type { Limiter } from "../api/rates/limiter.ts";
import { Slots } from "../api/concurrency/slots.ts";
import {
  failedPrecondition,
  internal,
  invalidArgument,
  missingParameter,
  notFound,
  rateLimited,
  unavailable,
} from "../errors.ts";
import type { Embedder } from "../models/embedder.ts";
import type { Database, Queryable } from "../postgres/database.ts";
import { hasSparePlace } from "../postgres/row-security/call.ts";
import { isStorable } from "../postgres/text.ts";
import { transaction } from "../postgres/transaction.ts";
import { requireStore } from "../storage/require.ts";
import { exportRows } from "./export.ts";
import { GroupReader, type Group } from "./group-reader.ts";
import { refusal, type Flight } from "./flight.ts";
import { GroupWriter } from "./group-writer.ts";
import {
  endIngest,
  findIngest,
  findIngestPosition,
  listIngests,
  type IngestKey,
  type IngestRow,
} from "./ingests.ts";
import { Pace } from "../api/watching/pace.ts";
import type { Watches } from "../api/watching/watches.ts";
import { paceRows } from "./pace.ts";
import { measureIngest, toCommitted, toExported, toList, toSummary } from "./reply.ts";
import { readOpen, readState } from "./request.ts";
import { explainLoss, ingestConflict, openIngestSession, type IngestSession } from "./session.ts";
import type { Batch } from "./settle.ts";
import { localId } from "../store-id.ts";

/** Limits and hooks of bulk ingest in this process. */
export interface IngestOptions {
  budget: ByteBudget;
  limiter: Limiter;
  watches: Watches;
  log: { info: (details: object, message: string) => void };
  /** Called with the number of rows written, after each commit. */
  onCommitted: (rows: number) => void;
  /** Called with the store's id when an ingest is completed or aborted. */
  onEnded: (storeId: string) => void;
  /**
   * Concurrent streams with `atomicity` stream, each of which holds a connection with an open transaction.
   */
  atomicStreamsMax: number;
  /** Concurrent streams that use a second connection, to write a group while the one before it is committed. */
  secondConnectionsMax: number;
  /** Idle timeout of a stream: milliseconds without a message from the client. */
  idleMs: number;
  /** Maximum size of a request message, in bytes; announced to clients. */
  messageBytesMax: number;
  /** Aborts when the shutdown begins: open streams then end after their current group. */
  draining: AbortSignal;
}

/**
 * Bytes reserved per open stream for HTTP/2's buffering: the stream's flow-control window, see wire/port.ts.
 */
const STREAM_BYTES = 1024 * 1024;

const ATOMIC_FULL = "Too many all-or-nothing streams are open: try again later.";

/**
 * Bytes of rows that complete a group. A group ends with some statements for which the rows of the stream wait, so
 * large groups are faster. The embedded database works on the thread that reads the stream, and gains nothing.
 */
const GROUP_BYTES = { postgres: 16 * 1024 * 1024, embedded: 4 * 1024 * 1024 };

/** Implements IngestService: bulk loading of embeddings, and their export. */
export function ingestService(
  database: Database,
  embedder: Embedder,
  options: IngestOptions,
): ServiceImpl<typeof IngestService> {
  const { pool, tables } = database;
  const ingest = createIngest(database, embedder, options);
  return {
    async ingest(requests, context) {
      for await (const { event } of ingest(requests, context))
        if (event.case === "summary") return event.value;
      throw internal(new Error("an ingest ended without a summary"));
    },

    async *ingestSession(requests, context) {
      yield* ingest(requests, context);
    },

    async getIngest({ vectorStoreId: storeId, ingestId }) {
      await requireStore(pool, tables, storeId);
      return toSummary(await requireIngest(pool, database, { storeId, ingestId }));
    },

    async listIngests(request) {
      const { id: storeId } = await requireStore(pool, tables, request.vectorStoreId);
      const page = readPage(request);
      const find = async (ingestId: string) => findIngestPosition(pool, tables, { storeId, ingestId });
      const after = await readPosition(request.after, "after", find, "ingest");
      const rows = await listIngests(pool, tables, storeId, {
        ...page,
        after,
        state: readState(request.state),
      });
      return toList(page.limit, rows);
    },

    watchIngest: watchIngest(database, options.watches),

    async abortIngest({ vectorStoreId: storeId, ingestId }) {
      await requireStore(pool, tables, storeId);
      const known = await requireIngest(pool, database, { storeId, ingestId });
      if (known.state === "completed") {
        throw failedPrecondition(
          "INGEST_CONFLICT",
          `Ingest '${ingestId}' is complete and cannot be aborted.`,
          "ingest_id",
        );
      }
      const ended = await transaction(pool, (client) =>
        endIngest(client, tables, { storeId, ingestId }, "aborted"),
      );
      options.onEnded(storeId);
      return toSummary(ended ?? known);
    },

    async *exportEmbeddings({ vectorStoreId, after }, { values }) {
      const { readers } = values.get(principal);
      for await (const row of exportRows(database, vectorStoreId, after, readers)) yield toExported(row);
    },
  };
}

function watchIngest(database: Database, watches: Watches): ServiceImpl<typeof IngestService>["watchIngest"] {
  const { pool, tables } = database;
  return async function* ({ vectorStoreId: storeId, ingestId }, context) {
    const pace = new Pace();
    const read = async () => {
      await requireStore(pool, tables, storeId);
      const row = await requireIngest(pool, database, { storeId, ingestId });
      return { state: measureIngest(toSummary(row), pace), isFinal: row.state !== "open" };
    };
    const key = `${storeId} ${ingestId}`;
    yield* watches.watch({ desc: IngestSummarySchema, key, read }, context);
  };
}

type Ingest = (
  requests: AsyncIterable<IngestRequest>,
  context: HandlerContext,
) => AsyncGenerator<IngestEvent>;

function createIngest(database: Database, embedder: Embedder, options: IngestOptions): Ingest {
  const { draining, idleMs, onCommitted } = options;
  const atomicStreams = new Slots(options.atomicStreamsMax);
  const secondConnections = new Slots(options.secondConnectionsMax);
  return async function* (requests, { signal, values }) {
    // keepBatchesEncoded (binary protobuf) and readIngest (NDJSON) produce messages of this type.
    const received = requests as AsyncIterable<ReceivedIngest>;
    const messages = new Messages(received, { idleMs, draining }, signal);
    const first = await messages.next();
    if (first.kind === "draining") throw isDraining();
    if (first.kind !== "message" || first.message.message.case !== "open") throw missingParameter("open");
    const open = first.message.message.value;
    const isAtomic = open.atomicity === Atomicity.STREAM;
    const caller = values.get(principal);
    const { caller: holder } = caller;
    const budget = options.limiter.shareOf(options.budget, caller);
    using _memory =
      budget.tryOpen(STREAM_BYTES) ?? refuse("Too many ingest streams are open: try again later.");
    using _connection = isAtomic ? atomicStreams.take(ATOMIC_FULL, holder) : undefined;
    const session = await openIngestSession(database, readOpen(open), caller);
    const pace = paceRows(options.limiter, caller, signal, draining);
    const rules = { budget, bytesMax: GROUP_BYTES[database.kind], pace };
    const reader = new GroupReader(messages, session, rules, signal);
    const openSecond = () =>
      database.pool.waitingCount > 0 || !hasSparePlace(database.pool.options)
        ? undefined
        : secondConnections.tryTake(holder);
    const writer = new GroupWriter(database, embedder, session, openSecond, signal);
    const stream = { session, messages, reader, writer, onCommitted, signal };
    const startedAt = performance.now();
    const ids = { vectorStoreId: session.key.storeId, ingestId: session.key.ingestId };
    try {
      options.log.info({ ...ids, throughSeq: Number(session.ingest.through_seq) }, "ingest opened");
      const resumeAfterSeq = BigInt(session.ingest.through_seq);
      yield event("opened", {
        ingestId: session.key.ingestId,
        resumeAfterSeq,
        messageBytesMax: BigInt(options.messageBytesMax),
      });
      const ingest = isAtomic ? await ingestWhole(database, stream) : yield* ingestByGroup(database, stream);
      if (ingest.state === "completed") options.onEnded(session.key.storeId);
      const durationMs = Math.round(performance.now() - startedAt);
      options.log.info({ ...ids, rows: rowsOf(ingest), durationMs }, `ingest ${ingest.state}`);
      yield event("summary", toSummary(ingest));
    } finally {
      reader.close();
    }
  };
}

/** The parts of one open stream. */
interface Stream {
  session: IngestSession;
  messages: Messages<ReceivedIngest>;
  reader: GroupReader;
  writer: GroupWriter;
  onCommitted: IngestOptions["onCommitted"];
  signal: AbortSignal;
}

/** Groups of a stream that are written at the same time. */
const FLIGHTS_MAX = 2;

/**
 * Commits group by group, in order; writes the next group during a commit, and reads the one after that (pipelining).
 * Returns the ingest's row.
 */
async function* ingestByGroup(database: Database, stream: Stream): AsyncGenerator<IngestEvent, IngestRow> {
  const { session, messages, reader, writer, onCommitted } = stream;
  let rows = rowsOf(session.ingest);
  let throughSeq = Number(session.ingest.through_seq);
  const flights: { flight: Flight; group: Group }[] = [];
  let next: Promise<Group> | undefined = readAhead(reader);
  let after: Group["after"] = { kind: "more" };
  while (next !== undefined || flights.length > 0) {
    const [head] = flights;
    const isFull = flights.length === FLIGHTS_MAX || next === undefined;
    if (next !== undefined && !isFull && !(await endsBefore(head?.flight.outcome, next))) {
      const group: Group = await next;
      ({ after } = group);
      next = after.kind === "more" ? readAhead(reader) : undefined;
      if (group.batches.length === 0) group[Symbol.dispose]();
      else {
        const flight = writer.begin(group.batches, flights.at(-1)?.flight);
        messages.owing(flight.outcome).catch(() => {});
        flights.push({ flight, group });
      }
    } else if (head !== undefined) {
      const outcome = await head.flight.outcome;
      flights.shift();
      onCommitted(outcome.rowsWritten);
      head.group.recycle();
      throughSeq = outcome.throughSeq;
      rows += outcome.rowsWritten + outcome.rowsSkipped + outcome.rowsRejected;
      yield event("committed", toCommitted(outcome));
      if (outcome.fatal !== undefined) throw refusal(outcome.fatal);
    }
  }
  if (after.kind === "draining") {
    yield event("draining", { throughSeq: BigInt(throughSeq) });
    throw isDraining();
  }
  if (after.kind === "failed") throw after.error;
  if (after.kind !== "finish") return requireIngest(database.pool, database, session.key);
  checkFinish(after.finish, rows);
  if (session.ingest.state === "completed") return session.ingest;
  // Over HTTP the end of the body counts as `finish`, and a cancelled upload may send END_STREAM before
  // the reset: without this check it would be recorded as complete.
  stream.signal.throwIfAborted();
  return transaction(database.pool, (client) => complete(client, database, session.key, throughSeq));
}

/** Whether `first`, if there is one, settles before `second`. */
async function endsBefore(first: Promise<unknown> | undefined, second: Promise<unknown>): Promise<boolean> {
  const settled = (promise: Promise<unknown>, result: boolean) => promise.catch(() => {}).then(() => result);
  return first !== undefined && Promise.race([settled(first, true), settled(second, false)]);
}

/** Commits the whole stream at its `finish`, or rolls back. Returns the ingest's row. */
async function ingestWhole(
  database: Database,
  { session, reader, writer, onCommitted }: Stream,
): Promise<IngestRow> {
  let finish: IngestFinish | undefined;
  async function* groups(): AsyncGenerator<readonly Batch[]> {
    for (;;) {
      using group = await reader.next();
      if (group.after.kind === "failed") throw group.after.error;
      if (group.batches.length > 0) yield group.batches;
      if (group.after.kind === "more") continue;
      if (group.after.kind === "draining") throw isDraining();
      // A cancelled upload may send END_STREAM before the reset, so only an explicit `finish` proves
      // completeness.
      if (group.after.kind !== "finish") throw missingParameter("finish");
      finish = group.after.finish;
      if (finish.rows === undefined) throw missingParameter("finish.rows");
      return;
    }
  }
  if (session.ingest.state === "completed") {
    // Idempotent retry after a lost reply: the reader skips the batches that are committed; others are a
    // conflict.
    for await (const batches of groups()) if (batches.length > 0) throw ingestConflict(session.key);
    checkFinish(finish as IngestFinish | undefined, rowsOf(session.ingest));
    return session.ingest;
  }
  let rowsWritten = 0;
  const ingest = await writer.commitAll(groups(), async (client, outcome) => {
    checkFinish(finish, outcome.rowsWritten + outcome.rowsSkipped + outcome.rowsRejected);
    rowsWritten = outcome.rowsWritten;
    return complete(client, database, session.key, outcome.throughSeq);
  });
  onCommitted(rowsWritten);
  return ingest;
}

async function complete(
  client: Queryable,
  database: Database,
  key: IngestKey,
  atSeq: number,
): Promise<IngestRow> {
  const ended = await endIngest(client, database.tables, key, "completed", atSeq);
  if (ended === undefined) throw await explainLoss(client, database, key);
  return ended;
}

function readAhead(reader: GroupReader): Promise<Group> {
  const next = reader.next();
  // Prevents an unhandled rejection: when the commit of the previous group fails, nobody awaits `next`.
  next.catch(() => {});
  return next;
}

function checkFinish(finish: IngestFinish | undefined, rows: number): void {
  if (finish?.rows === undefined || finish.rows === BigInt(rows)) return;
  checkRange("finish.rows", Number(finish.rows), 0, Infinity);
  throw invalidArgument(
    "finish.rows",
    `Invalid 'finish.rows': the client sent ${finish.rows} rows, but the service counted ${rows}.`,
  );
}

function rowsOf(ingest: IngestRow): number {
  return Number(ingest.rows_written) + Number(ingest.rows_skipped) + Number(ingest.rows_rejected);
}

async function requireIngest(client: Queryable, { tables }: Database, key: IngestKey): Promise<IngestRow> {
  const row = isStorable(key.ingestId) ? await findIngest(client, tables, key) : undefined;
  if (row !== undefined) return row;
  const message = `No ingest found with id '${key.ingestId}' in vector store '${localId(key.storeId)}'.`;
  throw notFound(message, "ingest_id");
}

function refuse(message: string): never {
  throw rateLimited(message, 1000);
}

function isDraining() {
  return unavailable("INGEST_DRAINING", "The service is shutting down: open the ingest again to resume.", {
    retryAfterMs: 1000,
  });
}

type EventCase = Exclude<IngestEvent["event"]["case"], undefined>;
type EventValue<Case extends EventCase> = Omit<
  Extract<IngestEvent["event"], { case: Case }>["value"],
  "$typeName" | "$unknown"
>;

function event<Case extends EventCase>(name: Case, value: EventValue<Case>): IngestEvent {
  return create(IngestEventSchema, { event: { case: name, value } as never });
}
