"""Connections: where the service is, who calls, and what each call carries."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Optional, Sequence, Tuple
from urllib.parse import urlsplit

import grpc

DEFAULT_URL = "http://127.0.0.1:8000"

_OPTIONS: Tuple[Tuple[str, Any], ...] = (
    # Channels with a shared connection share its backoff, and a load would wait for that of others.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 10_000),
    # Pings notice a network that has become silent.
    ("grpc.keepalive_time_ms", 20_000),
    # gRPC's default of 4 MiB is less than large pages and exported rows may have.
    ("grpc.max_receive_message_length", 256 * 1024 * 1024),
)


@dataclass(frozen=True)
class Settings:
    """What a channel is made of."""

    target: str
    credentials: Optional[grpc.ChannelCredentials]
    metadata: Tuple[Tuple[str, str], ...]
    timeout: float
    options: Tuple[Tuple[str, Any], ...]


def make_settings(
    url: Optional[str],
    api_key: Optional[str],
    project: Optional[str],
    timeout: float,
    ca: Optional[bytes],
    certificate: Optional[Tuple[bytes, bytes]],
    options: Sequence[Tuple[str, Any]],
) -> Settings:
    """Completes what the caller gave by PGQUIVER_URL and PGQUIVER_API_KEY."""
    url = url or os.environ.get("PGQUIVER_URL") or DEFAULT_URL
    key = api_key or os.environ.get("PGQUIVER_API_KEY")
    scheme, target = "http", url
    if "://" in url:
        parts = urlsplit(url)
        scheme = parts.scheme
        if scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"{url!r} is no URL of a service: expected http://HOST:PORT or https://HOST:PORT")
        target = parts.netloc if parts.port else f"{parts.netloc}:{443 if scheme == 'https' else 80}"
    metadata = []
    if key:
        metadata.append(("authorization", f"Bearer {key}"))
    if project:
        metadata.append(("openai-project", project))
    credentials = None
    if scheme == "https" or ca or certificate:
        chain, private_key = certificate or (None, None)
        # Positional: the names of these parameters are not of gRPC's public interface in every version.
        credentials = grpc.ssl_channel_credentials(ca, private_key, chain)
    return Settings(target, credentials, tuple(metadata), timeout, (*_OPTIONS, *options))


def open_channel(settings: Settings) -> grpc.Channel:
    """Opens a channel. Nothing is sent before the first call."""
    if settings.credentials is None:
        return grpc.insecure_channel(settings.target, settings.options)
    return grpc.secure_channel(settings.target, settings.credentials, settings.options)


def open_async_channel(settings: Settings) -> grpc.aio.Channel:
    """Opens a channel of the running event loop."""
    if settings.credentials is None:
        return grpc.aio.insecure_channel(settings.target, settings.options)
    return grpc.aio.secure_channel(settings.target, settings.credentials, settings.options)


class CallingChannel:
    """
    The part of a channel that stubs use, for both kinds of channels: calls carry the caller's metadata, and unary ones have a
    timeout. Interceptors would need one class for each kind of call and of channel.
    """

    def __init__(self, channel: Any, settings: Settings):
        self._channel = channel
        self._settings = settings

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Makes a callable for an RPC with one request and one reply."""
        return _Call(self._channel.unary_unary(*args, **kwargs), self._settings.metadata, self._settings.timeout)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Makes a callable for an RPC with a stream of replies."""
        return _Call(self._channel.unary_stream(*args, **kwargs), self._settings.metadata, None)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Makes a callable for an RPC with a stream of requests."""
        return _Call(self._channel.stream_unary(*args, **kwargs), self._settings.metadata, None)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Makes a callable for an RPC with streams in both directions."""
        return _Call(self._channel.stream_stream(*args, **kwargs), self._settings.metadata, None)


class _Call:
    def __init__(self, call: Any, metadata: Tuple[Tuple[str, str], ...], timeout: Optional[float]):
        self._call = call
        self._metadata = metadata
        self._timeout = timeout

    def _complete(self, arguments: dict) -> dict:
        metadata = (*self._metadata, *(arguments.get("metadata") or ()))
        timeout = arguments.get("timeout")
        return {**arguments, "metadata": metadata, "timeout": self._timeout if timeout is None else timeout}

    def __call__(self, request: Any, **arguments: Any) -> Any:
        return self._call(request, **self._complete(arguments))

    def future(self, request: Any, **arguments: Any) -> Any:
        return self._call.future(request, **self._complete(arguments))

    def with_call(self, request: Any, **arguments: Any) -> Any:
        return self._call.with_call(request, **self._complete(arguments))
