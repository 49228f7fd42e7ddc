import { create, fromBinary, toBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import {
  Client,
  credentials,
  Metadata,
  status,
  type ClientDuplexStream,
  type ClientWritableStream,
  type ServiceError,
} from "@grpc/grpc-js";
import { WriteMode } from "../../gen/pgquiver/v1/embeddings_pb.ts";
import {
  Atomicity,
  GetIngestRequestSchema,
  IngestEventSchema,
  IngestRequestSchema,
  IngestState,
  IngestSummarySchema,
  OnError,
  type IngestEvent,
  type IngestRequest,
  type IngestSummary,
} from "../../gen/pgquiver/v1/ingest_pb.ts";
import type { Plan } from "./plan.ts";

/** Callbacks with a client's progress, by which faults are timed. */
export interface Progress {
  /** A batch, or the closing message, was written to the stream. */
  sent: () => void;
  /** An acknowledgement arrived. */
  acknowledged: () => void;
}

/** The service violated its contract, for example resumed before an acknowledged batch. */
export class BrokenPromise extends Error {}

const MODES = {
  insert: WriteMode.INSERT,
  upsert: WriteMode.UPSERT,
  skip_existing: WriteMode.SKIP_EXISTING,
} as const;

/** Delay before a client reopens its ingest. */
const RETRY_MS = 20;

/** A client that makes no progress for this long reports the service as stuck. */
const PATIENCE_MS = 60_000;

/**
 * Loads a plan as the contract requires of a client: reopens the ingest after every broken stream and resumes
 * from its durable position, until the summary arrives. `address` resolves to the service's current address.
 */
export async function load(
  address: () => Promise<string>,
  storeId: string,
  plan: Plan,
  progress: Progress,
): Promise<IngestSummary> {
  const loading = { storeId, plan, progress, throughSeq: 0 };
  const run = plan.rpc === "IngestSession" ? runSession : runUpload;
  for (let failingSince = Date.now(), last = 0; ;) {
    const client = new Client(await address(), credentials.createInsecure());
    try {
      return await run(client, loading);
    } catch (error) {
      if (!isResumable(error)) throw error;
      if (loading.throughSeq > last) failingSince = Date.now();
      last = loading.throughSeq;
      if (Date.now() - failingSince > PATIENCE_MS)
        throw new BrokenPromise(`${plan.ingestId} cannot go on: ${(error as Error).message}`);
    } finally {
      client.close();
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

interface Loading {
  storeId: string;
  plan: Plan;
  progress: Progress;
  /** `seq` of the last batch that the service acknowledged as durable. */
  throughSeq: number;
}

/**
 * Codes after which a client reopens its ingest; any other code is a bug of the service. ABORTED: the COMMIT
 * of an earlier stream was still in progress when the ingest was reopened, and advanced the ingest.
 */
const RESUMABLE: readonly status[] = [
  status.UNAVAILABLE,
  status.RESOURCE_EXHAUSTED,
  status.CANCELLED,
  status.ABORTED,
];

function isResumable(error: unknown): boolean {
  return RESUMABLE.includes((error as ServiceError).code);
}

async function runSession(client: Client, loading: Loading): Promise<IngestSummary> {
  const { plan, progress } = loading;
  const call = client.makeBidiStreamRequest(
    "/pgquiver.v1.IngestService/IngestSession",
    ...codecs(IngestRequestSchema, IngestEventSchema),
  );
  const sender = new Sender(call, loading);
  const { promise, resolve, reject } = Promise.withResolvers<IngestSummary>();
  call.on("error", reject);
  call.on("end", () => reject(new BrokenPromise("A session ended without a summary or an error.")));
  call.on("data", ({ event }: IngestEvent) => {
    if (event.case === "opened") {
      try {
        noteDurable(loading, Number(event.value.resumeAfterSeq));
      } catch (error) {
        reject(error as Error);
        return;
      }
      void sender.sendFrom(plan.repeatsAll ? 1 : loading.throughSeq + 1).catch(reject);
    } else if (event.case === "committed") {
      loading.throughSeq = Number(event.value.throughSeq);
      progress.acknowledged();
      sender.acknowledged();
    } else if (event.case === "summary") {
      resolve(event.value);
    }
  });
  try {
    return await promise;
  } finally {
    sender.stop();
    call.on("error", () => {});
    call.cancel();
  }
}

async function runUpload(client: Client, loading: Loading): Promise<IngestSummary> {
  const { plan, storeId } = loading;
  const known = await getIngest(client, storeId, plan.ingestId);
  noteDurable(loading, Number(known?.throughSeq ?? 0n));
  if (known?.state === IngestState.COMPLETED) return known;
  const { promise, resolve, reject } = Promise.withResolvers<IngestSummary>();
  const call = client.makeClientStreamRequest(
    "/pgquiver.v1.IngestService/Ingest",
    ...codecs(IngestRequestSchema, IngestSummarySchema),
    new Metadata(),
    {},
    (error, summary) => (summary === undefined ? reject(error as Error) : resolve(summary)),
  );
  const sender = new Sender(call, loading);
  void sender.sendFrom(plan.repeatsAll ? 1 : loading.throughSeq + 1).catch(reject);
  try {
    return await promise;
  } finally {
    sender.stop();
    call.on("error", () => {});
    call.cancel();
  }
}

/**
 * Throws unless the durable position is at or after the last acknowledged one: an acknowledgement is final.
 */
function noteDurable(loading: Loading, throughSeq: number): void {
  if (throughSeq < loading.throughSeq) {
    throw new BrokenPromise(
      `${loading.plan.ingestId} was acknowledged through ${loading.throughSeq}, but resumes after ${throughSeq}.`,
    );
  }
  loading.throughSeq = throughSeq;
}

/** Reads an ingest's progress (GetIngest); undefined when the ingest does not exist. */
async function getIngest(
  client: Client,
  storeId: string,
  ingestId: string,
): Promise<IngestSummary | undefined> {
  const request = create(GetIngestRequestSchema, { vectorStoreId: storeId, ingestId });
  const { promise, resolve, reject } = Promise.withResolvers<IngestSummary | undefined>();
  client.makeUnaryRequest(
    "/pgquiver.v1.IngestService/GetIngest",
    ...codecs(GetIngestRequestSchema, IngestSummarySchema),
    request,
    (error, summary) =>
      error === null || error.code === status.NOT_FOUND ? resolve(summary) : reject(error),
  );
  return promise;
}

type Call = ClientDuplexStream<IngestRequest, IngestEvent> | ClientWritableStream<IngestRequest>;

/** Sends a plan's messages, with the stream's backpressure. */
class Sender {
  readonly #call: Call;
  readonly #loading: Loading;
  #isStopped = false;
  #wake = () => {};

  constructor(call: Call, loading: Loading) {
    this.#call = call;
    this.#loading = loading;
    call.on("drain", () => this.#wake());
    if (loading.plan.rpc === "IngestSession") this.#call.write(openMessage(loading));
  }

  async sendFrom(first: number): Promise<void> {
    const { plan, progress } = this.#loading;
    if (plan.rpc === "Ingest") this.#call.write(openMessage(this.#loading));
    // A session with atomicity "stream" acknowledges nothing before its end: waiting for an acknowledgement
    // would hang.
    const isPaced = plan.rpc === "IngestSession" && plan.atomicity === "batch";
    for (let seq = first; seq <= plan.batches.length; seq++) {
      while (isPaced && seq > Math.max(this.#loading.throughSeq, first - 1) + plan.batchesAheadMax)
        await this.#woken();
      if (this.#isStopped) return;
      const isFull = !this.#call.write(batchMessage(plan, seq));
      progress.sent();
      if (isFull) await this.#woken();
    }
    if (this.#isStopped) return;
    const rows = plan.batches.reduce((sum, batch) => sum + batch.length, 0);
    this.#call.write(
      create(IngestRequestSchema, { message: { case: "finish", value: { rows: BigInt(rows) } } }),
    );
    this.#call.end();
    progress.sent();
  }

  acknowledged(): void {
    this.#wake();
  }

  stop(): void {
    this.#isStopped = true;
    this.#wake();
  }

  async #woken(): Promise<void> {
    if (this.#isStopped) return;
    await new Promise<void>((resolve) => (this.#wake = resolve));
    if (this.#isStopped) throw new Error("The stream broke.");
  }
}

function openMessage({ storeId, plan }: Loading): IngestRequest {
  return create(IngestRequestSchema, {
    message: {
      case: "open",
      value: {
        vectorStoreId: storeId,
        ingestId: plan.ingestId,
        mode: MODES[plan.mode],
        atomicity: plan.atomicity === "stream" ? Atomicity.STREAM : Atomicity.BATCH,
        onError: plan.onError === "skip_row" ? OnError.SKIP_ROW : OnError.ABORT_BATCH,
      },
    },
  });
}

function batchMessage(plan: Plan, seq: number): IngestRequest {
  const rows = plan.batches[seq - 1] ?? [];
  return create(IngestRequestSchema, {
    message: {
      case: "batch",
      value: {
        seq: BigInt(seq),
        rows: rows.map(({ id, content, vector }) => ({ id, content, embedding: vector })),
      },
    },
  });
}

/** Serializers for grpc-js that use the repository's generated protobuf-es schemas. */
function codecs<Input extends DescMessage, Output extends DescMessage>(input: Input, output: Output) {
  return [
    (message: MessageShape<Input>) => Buffer.from(toBinary(input, message)),
    (bytes: Buffer) => fromBinary(output, bytes),
  ] as const;
}
