"""
Loads a file of rows into a vector store at the speed of the service, and resumes after every
interruption: of the network, of the service, or of this process. README.md says how to run it.

Why every row is loaded exactly once: the file is split into numbered batches, always in the same
way. The service commits a batch together with its number, stored under the ingest's id, and then
acknowledges the number. This client keeps each batch until the acknowledgement, and sends
unacknowledged batches again after an interruption.
"""

import argparse
import os
import random
import sys
import time
import uuid

import grpc

from load import Load, say
from service import ON_ERROR_SKIP_ROW, TRANSIENT, IngestOpen, IngestRequest, IngestServiceStub, WriteMode, describe

# Maximum number of consecutive attempts without progress, and the bounds of the backoff between attempts.
ATTEMPTS_MAX = 10
WAIT_FIRST_SECONDS = 0.2
WAIT_MAX_SECONDS = 30

COMPLETE, FAILED, ROWS_REFUSED = 0, 1, 3  # exit statuses; argparse exits with 2


def main():
    options = read_options()
    say(f"Ingest {options.ingest_id}: to resume after an interruption, use --ingest-id {options.ingest_id}")
    try:
        load = Load(options.file)
        summary = load_whole(load, options)
    except (grpc.RpcError, OSError, ValueError) as error:
        say(f"Failed: {describe(error)[0]}")
        return FAILED
    load.report(summary.errors)
    say(load.progress())
    print(f"{summary.rows_written} rows written, {summary.rows_skipped} skipped, {summary.rows_rejected} refused")
    return ROWS_REFUSED if summary.rows_rejected else COMPLETE


def load_whole(load, options):
    """Opens the ingest repeatedly until it is complete. Raises a permanent error, or too many without progress."""
    attempt = 0
    while True:
        attempt += 1
        # Skipping the batches that an earlier run has sent counts as progress too: with a large file it may
        # take longer than the 30 s after which the service ends an idle stream.
        before = load.rows_read + load.committed_seq
        try:
            return run_session(load, options)
        except grpc.RpcError as error:
            if load.rows_read + load.committed_seq > before:
                attempt = 1
            message, retry_after = describe(error)
            is_transient = error.code() in TRANSIENT or retry_after is not None
            if not is_transient or attempt == ATTEMPTS_MAX:
                raise
            # Exponential backoff with jitter: otherwise all clients of a restarted service would reconnect at once.
            backoff = random.random() * min(WAIT_MAX_SECONDS, WAIT_FIRST_SECONDS * 2**attempt)
            wait = max(retry_after or 0, backoff)
            say(f"{message} Trying again in {wait:.1f} s.")
            time.sleep(wait)


def run_session(load, options):
    """Opens one stream and sends the uncommitted batches. Returns the summary of the complete ingest."""
    # A separate connection per channel: a shared one has its own reconnect backoff, which would delay ours.
    settings = [("grpc.use_local_subchannel_pool", 1), ("grpc.keepalive_time_ms", 20_000)]
    if options.tls:
        channel = grpc.secure_channel(options.address, grpc.ssl_channel_credentials(), settings)
    else:
        channel = grpc.insecure_channel(options.address, settings)
    metadata = [("authorization", f"Bearer {options.key}")] if options.key else []
    summary = None
    with channel:
        messages = requests(load, load.begin_session(), options)
        try:
            for event in IngestServiceStub(channel).IngestSession(messages, metadata=metadata):
                kind = event.WhichOneof("event")
                if kind == "opened":
                    load.resume(event.opened.resume_after_seq)
                elif kind == "committed":
                    load.report(event.committed.errors)
                    load.acknowledge(event.committed.through_seq)
                    load.show_progress()
                elif kind == "draining":
                    # The service is shutting down: it reads no more and ends the stream with UNAVAILABLE, so the
                    # next attempt reaches another instance.
                    load.end_session()
                else:
                    load.acknowledge(event.summary.through_seq)
                    summary = event.summary
        finally:
            load.end_session()
            # An error of the sending thread, such as an unreadable file, is the cause of the stream's error.
            if load.failure is not None:
                raise load.failure
    if summary is None:
        raise ValueError("The service ended the stream without a summary.")
    return summary


def requests(load, session, options):
    """The messages of one stream. gRPC iterates in a separate thread, with backpressure from the service."""
    # The service refuses to reopen an ingest with other settings.
    mode = WriteMode.Value(f"WRITE_MODE_{options.mode.upper()}")
    settings = {"vector_store_id": options.store, "ingest_id": options.ingest_id}
    request = IngestRequest(open=IngestOpen(mode=mode, on_error=ON_ERROR_SKIP_ROW, **settings))
    while request is not None:
        yield request
        if request.HasField("finish"):
            return
        request = load.next_request(request.batch.seq, session)


def read_options():
    parser = argparse.ArgumentParser(description="Loads a file of rows into a vector store.")
    parser.add_argument("--address", required=True, help="host:port")
    parser.add_argument("--store", required=True)
    parser.add_argument("--file", required=True, help="one JSON object a line")
    parser.add_argument("--key", default=os.environ.get("PGQUIVER_API_KEY"), help="default: PGQUIVER_API_KEY")
    parser.add_argument("--ingest-id", default=str(uuid.uuid4()))
    parser.add_argument("--mode", default="insert", choices=["insert", "upsert", "skip_existing"])
    parser.add_argument("--tls", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
