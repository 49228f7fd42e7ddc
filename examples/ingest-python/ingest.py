"""
Loads a file of rows into a vector store, as fast as the service takes them, and survives every
break: of the network, of the service, of this process. README.md says how to run it.

How nothing is lost and nothing doubled: the file is cut into numbered batches, the same ones each
time. The service acknowledges a number when the batch is committed, and remembers it under the
ingest's id. Until then the batch is kept here, to be sent again after a break.
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

# Attempts in a row that may end without any progress, and the waits between them.
ATTEMPTS_MAX = 10
WAIT_FIRST_SECONDS = 0.2
WAIT_MAX_SECONDS = 30

COMPLETE, FAILED, ROWS_REFUSED = 0, 1, 3  # exit statuses; argparse exits with 2


def main():
    options = read_options()
    say(f"Ingest {options.ingest_id}: after a break go on with --ingest-id {options.ingest_id}")
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
    """Opens the ingest again and again, until it is complete or without hope."""
    attempt = 0
    while True:
        attempt += 1
        # Reading past what an earlier run has sent is progress, too: the service waits 30 s for it, not longer.
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
            # Longer each time, and random, so that not all clients of a service come back in one instant.
            backoff = random.random() * min(WAIT_MAX_SECONDS, WAIT_FIRST_SECONDS * 2**attempt)
            wait = max(retry_after or 0, backoff)
            say(f"{message} Trying again in {wait:.1f} s.")
            time.sleep(wait)


def run_session(load, options):
    """Opens one stream and sends what is not committed yet. Returns the summary of the complete ingest."""
    # A channel with connections of its own: its reconnecting would only get in the way of ours.
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
                    # The service ends and reads no more. It closes the stream with UNAVAILABLE; another takes over.
                    load.end_session()
                else:
                    load.acknowledge(event.summary.through_seq)
                    summary = event.summary
        finally:
            load.end_session()
            # What failed here counts more than how the stream ended.
            if load.failure is not None:
                raise load.failure
    if summary is None:
        raise ValueError("The service ended the stream without a summary.")
    return summary


def requests(load, session, options):
    """What one stream sends. gRPC takes it in a thread of its own, no faster than the service reads."""
    # The settings belong to the ingest and must be the same each time.
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
