/**
 * Loads a file of rows into a vector store at the speed of the service, and resumes after every interruption:
 * of the network, of the service, or of this process. README.md says how to run it.
 *
 * Why every row is loaded exactly once: the file is split into numbered batches, always in the same way. The
 * service commits a batch together with its number, stored under the ingest's id, and then acknowledges the
 * number. This client keeps each batch until the acknowledgement, and sends unacknowledged batches again
 * after an interruption.
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

/**
 * Maximum number of consecutive attempts without progress, and the bounds of the backoff between attempts.
 */
const ATTEMPTS_MAX = 10;
const WAIT_FIRST_MS = 200;
const WAIT_MAX_MS = 30_000;

const EXIT = { complete: 0, failed: 1, misused: 2, rowsRefused: 3 };

async function main(): Promise<number> {
  const options = readOptions();
  if (options === undefined) return EXIT.misused;
  say(`Ingest ${options.ingestId}: to resume after an interruption, use --ingest-id ${options.ingestId}`);
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

/**
 * Opens the ingest repeatedly until it is complete. Throws after a permanent error, or too many without
 * progress.
 */
async function loadWhole(load: Load): Promise<Summary> {
  for (let attempt = 1; ; attempt++) {
    // Skipping the batches that an earlier run has sent counts as progress too: with a large file it may take
    // longer than the 30 s after which the service ends an idle stream.
    const before = load.rowsRead + load.committedSeq;
    try {
      return await runSession(load);
    } catch (error) {
      if (load.rowsRead + load.committedSeq > before) attempt = 1;
      const { message, isTransient, retryAfterMs } = describe(error);
      if (!isTransient || attempt === ATTEMPTS_MAX) throw error;
      // Exponential backoff with jitter: otherwise all clients of a restarted service would reconnect at
      // once.
      const backoffMs = Math.random() * Math.min(WAIT_MAX_MS, WAIT_FIRST_MS * 2 ** attempt);
      const waitMs = Math.max(retryAfterMs, backoffMs);
      say(`${message} Trying again in ${(waitMs / 1000).toFixed(1)} s.`);
      await sleep(waitMs);
    }
  }
}

/** Opens one stream and sends the uncommitted batches. Returns the summary of the complete ingest. */
async function runSession(load: Load): Promise<Summary> {
  const { address, tls, key, store, ingestId, mode } = load.options;
  // A separate connection per channel: a shared one has its own reconnect backoff, which would delay ours.
  const client = new Client(address, tls ? credentials.createSsl() : credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.keepalive_time_ms": 20_000,
  });
  const metadata = new Metadata();
  if (key !== undefined) metadata.set("authorization", `Bearer ${key}`);
  // Identity serializer: batches are already encoded, once, even if sent again.
  const call: Call = client.makeBidiStreamRequest(sessionPath, (bytes) => bytes, decodeEvent, metadata);
  // The loop below throws the call's error. Without this listener, an error after the loop would be an
  // uncaught exception and end the process.
  call.on("error", () => {});
  const over = new AbortController();
  let sending: Promise<void> | undefined;
  let summary: Summary | undefined;
  try {
    // The service refuses to reopen an ingest with other settings.
    const settings = { mode: `WRITE_MODE_${mode.toUpperCase()}`, on_error: "ON_ERROR_SKIP_ROW" };
    call.write(encodeRequest({ open: { vector_store_id: store, ingest_id: ingestId, ...settings } }));
    for await (const event of call as AsyncIterable<IngestEvent>) {
      if (event.event === "opened") {
        load.resume(event.opened.resume_after_seq);
        sending = send(load, call, over.signal);
        // A failed send, such as an unreadable file, ends the stream; the `finally` block below rethrows the
        // error.
        sending.catch(() => call.cancel());
      } else if (event.event === "committed") {
        load.report(event.committed.errors);
        load.acknowledge(event.committed.through_seq);
      } else if (event.event === "draining") {
        // The service is shutting down: it reads no more and ends the stream with UNAVAILABLE, so the next
        // attempt reaches another instance.
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
    // Wait, because two sessions must not read the file concurrently. An error of `send` replaces the
    // stream's error: it is the cause.
    await sending;
  }
}

type Call = ClientDuplexStream<Buffer, IngestEvent>;

/** Sends the batches that are not committed: first the unacknowledged ones, then the rest of the file. */
async function send(load: Load, call: Call, signal: AbortSignal): Promise<void> {
  // Backpressure: when HTTP/2's flow-control window is full, `write` returns false until "drain".
  const write = async (message: Buffer) => {
    signal.throwIfAborted();
    if (!call.write(message)) await once(call, "drain", { signal });
  };
  try {
    let batch: Batch | undefined;
    while ((batch = await load.takeAfter(batch?.seq ?? 0, signal)) !== undefined) await write(batch.message);
    // End-to-end check: the service refuses to complete the ingest if its own row count differs.
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
