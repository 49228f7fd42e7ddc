"""Loads rows by a stream, each exactly once, through interruptions of the network and of the service."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, AsyncIterator, Iterator, Optional

import grpc

from .load_state import Attempts, LoadResult, LoadState, make_batch_request
from .rows import Batch, BatchCutter, cut_batches
from .v1.ingest_pb2 import INGEST_STATE_COMPLETED, IngestRequest, IngestSummary


class Load:
    """A load in threads: gRPC reads the messages of a stream in a thread of its own."""

    def __init__(self, stub: Any, state: LoadState, rows: Any):
        self._stub = stub
        self._state = state
        self._batches = cut_batches(rows)
        self._changed = threading.Condition()
        self._session = 0

    def run(self) -> LoadResult:
        """Runs until everything is committed. Raises a permanent error, or the last one after attempts without progress."""
        attempts = Attempts()
        while True:
            before = self._state.advance()
            try:
                return self._state.result(self._run_session())
            except grpc.RpcError as error:
                time.sleep(attempts.wait_after(error, self._state.advance() > before))

    def _run_session(self) -> IngestSummary:
        with self._changed:
            first, session = self._state.begin(), self._session
        events = self._stub.IngestSession(self._requests(first, session))
        try:
            for event in events:
                with self._changed:
                    self._state.handle(event)
                    self._changed.notify_all()
        finally:
            events.cancel()
            with self._changed:
                self._session += 1
                self._changed.notify_all()
            # The rows cannot be read: that is the cause of how the stream ended.
            if self._state.failure is not None:
                raise self._state.failure
        return _require_completed(self._state)

    def _requests(self, first: IngestRequest, session: int) -> Iterator[IngestRequest]:
        yield first
        seq = 0
        while True:
            # The lock is held while rows are read: a stream that has ended may still be reading when the next begins.
            with self._changed:
                batch = self._next_batch(seq, session)
                has_ended = self._session != session or self._state.is_draining or self._state.failure is not None
            if batch is None:
                if not has_ended:
                    yield self._state.finish()
                return
            seq = batch.seq
            yield make_batch_request(batch)

    def _next_batch(self, seq: int, session: int) -> Optional[Batch]:
        state = self._state
        while self._session == session and not state.is_draining:
            batch = state.kept_after(seq) if state.is_open else None
            if batch is not None:
                return batch
            if not state.is_open or not state.may_read():
                self._changed.wait()
                continue
            try:
                batch = next(self._batches, None)
            except BaseException as error:  # the caller's rows may raise anything
                state.failure = error
                return None
            if batch is None or state.take(batch):
                return batch
        return None


class AsyncLoad:
    """A load in an event loop."""

    def __init__(self, stub: Any, state: LoadState, rows: Any):
        self._stub = stub
        self._state = state
        self._batches = _cut_batches(rows)
        self._reading: Optional[asyncio.Future] = None
        self._changed = asyncio.Event()

    async def run(self) -> LoadResult:
        """Runs until everything is committed. Raises a permanent error, or the last one after attempts without progress."""
        attempts = Attempts()
        try:
            while True:
                before = self._state.advance()
                try:
                    return self._state.result(await self._run_session())
                except grpc.RpcError as error:
                    await asyncio.sleep(attempts.wait_after(error, self._state.advance() > before))
        finally:
            if self._reading is not None:
                self._reading.cancel()

    async def _run_session(self) -> IngestSummary:
        requests = self._requests(self._state.begin())
        events = self._stub.IngestSession(requests)
        try:
            async for event in events:
                self._state.handle(event)
                self._changed.set()
        finally:
            events.cancel()
            if self._state.failure is not None:
                raise self._state.failure
        return _require_completed(self._state)

    async def _requests(self, first: IngestRequest) -> AsyncIterator[IngestRequest]:
        yield first
        seq = 0
        while not self._state.is_draining:
            batch = self._state.kept_after(seq) if self._state.is_open else None
            if batch is None and self._state.is_open and self._state.may_read():
                try:
                    batch = await self._read()
                except Exception as error:
                    self._state.failure = error
                    return
                if batch is None:
                    if not self._state.is_draining:
                        yield self._state.finish()
                    return
                if not self._state.take(batch):
                    continue
            if batch is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            seq = batch.seq
            yield make_batch_request(batch)

    async def _read(self) -> Optional[Batch]:
        """Reads a batch in a task of its own: a stream that breaks must not cancel the caller's generator."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(_next(self._batches))
        batch = await asyncio.shield(self._reading)
        self._reading = None
        return batch


async def _cut_batches(rows: Any) -> AsyncIterator[Batch]:
    if not hasattr(rows, "__aiter__"):
        for batch in cut_batches(rows):
            yield batch
        return
    cutter = BatchCutter()
    async for row in rows:
        batch = cutter.add(row)
        if batch is not None:
            yield batch
    rest = cutter.cut()
    if rest is not None:
        yield rest


async def _next(batches: AsyncIterator[Batch]) -> Optional[Batch]:
    try:
        return await batches.__anext__()
    except StopAsyncIteration:
        return None


def _require_completed(state: LoadState) -> IngestSummary:
    if state.summary is None or state.summary.state != INGEST_STATE_COMPLETED:
        raise RuntimeError("The service ended the stream before the ingest was complete.")
    return state.summary
