"""What the errors of calls say: the service sends google.rpc details with each."""

from __future__ import annotations

from typing import Any, Optional, Union

import grpc
from google.rpc import error_details_pb2, status_pb2

# What a client sees, also through a proxy, when a connection or an instance ends.
TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        # Another stream has advanced the ingest: probably the previous one of this load, whose end the service noticed later.
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNKNOWN,
    }
)

RpcError = Union[grpc.RpcError, grpc.aio.AioRpcError]


def reason_of(error: RpcError) -> Optional[str]:
    """Returns the reason of an error, such as "NOT_FOUND"; docs/errors.md lists them. None: the service sent none."""
    info = _find_detail(error, error_details_pb2.ErrorInfo())
    return None if info is None else info.reason


def retry_after(error: RpcError) -> Optional[float]:
    """Returns the seconds to wait before the same call may succeed; None: another attempt is pointless."""
    retry = _find_detail(error, error_details_pb2.RetryInfo())
    if retry is not None:
        return retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return 0.0 if error.code() in TRANSIENT else None


def _find_detail(error: Any, detail: Any) -> Any:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return next((detail for item in status_pb2.Status.FromString(value).details if item.Unpack(detail)), None)
    return None
