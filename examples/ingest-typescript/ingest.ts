/**
 * Loads a file of rows into a vector store, as fast as the service takes them, and survives every
 * break: of the network, of the service, of this process. README.md says how to run it.
 *
 * How nothing is lost and nothing doubled: the file is cut into numbered batches, the same ones each
 * time. The service acknowledges a number when the batch is committed, and remembers it under the
 * ingest's id. Until then the batch is kept here, to be sent again after a break.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Client, credentials, Metadata, type ClientDuplexStream } from "@grpc/grpc-js";
import { Load, say, show, type Options } from "./load.ts";
import type { Batch } from "./rows.ts";
import {
  decodeEvent,
  describe,
  encodeRequest,
  sessionPath,
  type IngestEvent,
  type Summary,
} from "./service.ts";

/** Attempts in a row that may end without any progress, and the waits between them. */
const ATTEMPTS_MAX = 10;
const WAIT_FIRST_MS = 200;
const WAIT_MAX_MS = 30_000;

const EXIT = { complete: 0, failed: 1, misused: 2, rowsRefused: 3 };

async function main(): Promise<number> {
  const options = readOptions();
  if (options === undefined) return EXIT.misused;
  say(`Ingest ${options.ingestId}: after a break go on with --ingest-id ${options.ingestId}`);
  let progress: NodeJS.Timeout | undefined;
  try {
    const load = new Load(options);
    progress = setInterval(() => show(load.progress()), process.stderr.isTTY ? 200 : 10_000);
    const { rows_written, rows_skipped, rows_rejected, errors } = await loadWhole(load);
    load.report(errors);
    say(load.progress());
    console.log(`${rows_written} rows written, ${rows_skipped} skipped, ${rows_rejected} refused`);
    return rows_rejected > 0 ? EXIT.rowsRefused : EXIT.complete;
  } catch (error) {
    say(`Failed: ${describe(error).message}`);
    return EXIT.failed;
  } finally {
    clearInterval(progress);
  }
}

/** Opens the ingest again and again, until it is complete or without hope. */
async function loadWhole(load: Load): Promise<Summary> {
  for (let attempt = 1; ; attempt++) {
    // Reading past what an earlier run has sent is progress, too: the service waits 30 s for it, not longer.
    const before = load.rowsRead + load.committedSeq;
    try {
      return await runSession(load);
    } catch (error) {
      if (load.rowsRead + load.committedSeq > before) attempt = 1;
      const { message, isTransient, retryAfterMs } = describe(error);
      if (!isTransient || attempt === ATTEMPTS_MAX) throw error;
      // Longer each time, and random, so that not all clients of a service come back in one instant.
      const backoffMs = Math.random() * Math.min(WAIT_MAX_MS, WAIT_FIRST_MS * 2 ** attempt);
      const waitMs = Math.max(retryAfterMs, backoffMs);
      say(`${message} Trying again in ${(waitMs / 1000).toFixed(1)} s.`);
      await sleep(waitMs);
    }
  }
}

/** Opens one stream and sends what is not committed yet. Resolves when the ingest is complete. */
async function runSession(load: Load): Promise<Summary> {
  const { address, tls, key, store, ingestId, mode } = load.options;
  // A channel with connections of its own: its reconnecting would only get in the way of ours.
  const client = new Client(address, tls ? credentials.createSsl() : credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.keepalive_time_ms": 20_000,
  });
  const metadata = new Metadata();
  if (key !== undefined) metadata.set("authorization", `Bearer ${key}`);
  // Batches are encoded once, however often they are sent; here they pass as they are.
  const call: Call = client.makeBidiStreamRequest(sessionPath, (bytes) => bytes, decodeEvent, metadata);
  // The loop below throws its error; but without a listener a late one would end the process.
  call.on("error", () => {});
  const over = new AbortController();
  let sending: Promise<void> | undefined;
  let summary: Summary | undefined;
  try {
    // These belong to the ingest and must be the same each time.
    const settings = { mode: `WRITE_MODE_${mode.toUpperCase()}`, on_error: "ON_ERROR_SKIP_ROW" };
    call.write(encodeRequest({ open: { vector_store_id: store, ingest_id: ingestId, ...settings } }));
    for await (const event of call as AsyncIterable<IngestEvent>) {
      if (event.event === "opened") {
        load.resume(event.opened.resume_after_seq);
        sending = send(load, call, over.signal);
        // The stream ends with it, and the failure itself is thrown below.
        sending.catch(() => call.cancel());
      } else if (event.event === "committed") {
        load.report(event.committed.errors);
        load.acknowledge(event.committed.through_seq);
      } else if (event.event === "draining") {
        // The service ends and reads no more. It closes the stream with UNAVAILABLE; another takes over.
        over.abort();
      } else {
        load.acknowledge(event.summary.through_seq);
        summary = event.summary;
      }
    }
    if (summary === undefined) throw new Error("The service ended the stream without a summary.");
    return summary;
  } finally {
    over.abort();
    call.cancel();
    client.close();
    // Two sessions must not read the file at once. What failed here counts more than the stream's end.
    await sending;
  }
}

type Call = ClientDuplexStream<Buffer, IngestEvent>;

/** Sends what is not committed yet: first what is kept, then the rest of the file. */
async function send(load: Load, call: Call, signal: AbortSignal): Promise<void> {
  // HTTP/2 slows us down to the pace of the service: `write` says when to wait for it.
  const write = async (message: Buffer) => {
    signal.throwIfAborted();
    if (!call.write(message)) await once(call, "drain", { signal });
  };
  try {
    let batch: Batch | undefined;
    while ((batch = await load.takeAfter(batch?.seq ?? 0, signal)) !== undefined) await write(batch.message);
    // The service compares the number with its own: the proof that every row has come.
    await write(encodeRequest({ finish: { rows: load.rowsRead } }));
    call.end();
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

function readOptions(): Options | undefined {
  try {
    const { values } = parseArgs({
      options: {
        address: { type: "string" },
        store: { type: "string" },
        file: { type: "string" },
        key: { type: "string", default: process.env["PGQUIVER_API_KEY"] },
        "ingest-id": { type: "string", default: randomUUID() },
        mode: { type: "string", default: "insert" },
        tls: { type: "boolean", default: false },
      },
    });
    const { address, store, file, key, mode, tls } = values;
    const isKnown = ["insert", "upsert", "skip_existing"].includes(mode);
    if (address !== undefined && store !== undefined && file !== undefined && isKnown)
      return { address, store, file, key, ingestId: values["ingest-id"], mode, tls };
  } catch (error) {
    console.error((error as Error).message);
  }
  console.error(
    "Usage: ingest.ts --address HOST:PORT --store STORE --file FILE [--key KEY] [--ingest-id ID] [--mode insert|upsert|skip_existing] [--tls]",
  );
  return undefined;
}

process.exitCode = await main();
