"""The service as this client sees it: its messages, and what its errors mean."""

import sys
from pathlib import Path

import grpc

# What generate.sh makes.
sys.path.insert(0, str(Path(__file__).parent / "generated"))

from google.rpc.error_details_pb2 import RetryInfo  # noqa: E402
from pgquiver.v1.ingest_pb2 import (  # noqa: E402, F401
    ON_ERROR_SKIP_ROW,
    IngestFinish,
    IngestOpen,
    IngestRequest,
    WriteMode,
)
from pgquiver.v1.ingest_pb2_grpc import IngestServiceStub  # noqa: E402, F401
from status_pb2 import Status  # noqa: E402

# How the end of a connection or of a service shows, with or without a proxy between.
TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    # The ingest has moved on: most likely by our own last stream, whose break we noticed first.
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,
}


def describe(error):
    """Any error in words, and how many seconds the service asks to wait before another attempt, if it does."""
    if not isinstance(error, grpc.RpcError):
        return str(error), None
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    status = Status.FromString(details or b"")
    retry = RetryInfo()
    if any(detail.Unpack(retry) for detail in status.details):
        return status.message, retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return status.message or error.details(), None
