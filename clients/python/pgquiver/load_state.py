"""What a load knows across its streams, for the client with threads and for the one with asyncio."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Deque, Dict, List, Optional, Set, Tuple, Union

from .errors import retry_after
from .rows import Batch
from .v1.embeddings_pb2 import WriteMode
from .v1.ingest_pb2 import (
    ON_ERROR_SKIP_ROW,
    IngestBatch,
    IngestEvent,
    IngestFinish,
    IngestOpen,
    IngestRequest,
    IngestSummary,
    RowError,
)

# Batches that are sent and not committed: bounds the memory. The service commits up to 4 MiB at a time.
UNACKNOWLEDGED_MAX = 16

# Attempts without progress, and the bounds of the wait between them.
ATTEMPTS_MAX = 10
WAIT_FIRST_SECONDS = 0.2
WAIT_MAX_SECONDS = 30.0


@dataclass(frozen=True)
class RefusedRow:
    """A row that the service refused. `index`: which of the rows given, from 0."""

    index: int
    id: str
    field: str
    code: str
    message: str


@dataclass(frozen=True)
class LoadProgress:
    """How far a load is. `rows_resumed`: those of `rows_committed` that an earlier run of the same ingest has loaded."""

    rows_read: int
    rows_committed: int
    rows_resumed: int


@dataclass(frozen=True)
class LoadResult:
    """What became of the rows. `refused` has the first 100 of `rows_rejected`."""

    ingest_id: str
    rows_written: int
    rows_skipped: int
    rows_rejected: int
    refused: List[RefusedRow] = field(default_factory=list)


ProgressLike = Union[bool, Callable[[LoadProgress], None]]


class LoadState:
    """Batches that are not committed, and counts. The two clients guard it, each in its own way."""

    def __init__(self, store: str, mode: str, ingest_id: str, progress: Callable[[LoadProgress], None]):
        try:
            write_mode = WriteMode.Value(f"WRITE_MODE_{mode.upper()}")
        except ValueError:
            raise ValueError(f"mode is insert, upsert or skip_existing, not {mode!r}") from None
        self._open = IngestOpen(vector_store_id=store, ingest_id=ingest_id, mode=write_mode, on_error=ON_ERROR_SKIP_ROW)
        self._progress = progress
        self._unacknowledged: Deque[Batch] = deque()
        self._starts: List[int] = []
        self._errors: Dict[Tuple[int, int], RowError] = {}
        self.is_open = False
        self.is_draining = False
        self.failure: Optional[BaseException] = None
        self.summary: Optional[IngestSummary] = None
        self._committed_seq = 0
        self._rows_read = self._rows_committed = self._rows_resumed = 0

    def begin(self) -> IngestRequest:
        """Begins a stream: returns its first message."""
        self.is_open = self.is_draining = False
        self.summary = None
        return IngestRequest(open=self._open)

    def kept_after(self, seq: int) -> Optional[Batch]:
        """Returns the batch after this one that was read and is not committed."""
        return next((batch for batch in self._unacknowledged if batch.seq > seq), None)

    def may_read(self) -> bool:
        """Whether memory is left for another batch."""
        return len(self._unacknowledged) < UNACKNOWLEDGED_MAX

    def take(self, batch: Batch) -> bool:
        """Counts a batch that was read. Returns whether it must be sent: an earlier run may have done so."""
        self._starts.append(batch.start)
        self._rows_read += len(batch.rows)
        if batch.seq > self._committed_seq:
            self._unacknowledged.append(batch)
            return True
        self._rows_resumed += len(batch.rows)
        self._count(batch)
        return False

    def finish(self) -> IngestRequest:
        """Returns the last message. The service refuses to complete the ingest when it has counted another number."""
        return IngestRequest(finish=IngestFinish(rows=self._rows_read))

    def handle(self, event: IngestEvent) -> None:
        """Takes an event of the service."""
        kind = event.WhichOneof("event")
        if kind == "opened":
            self._acknowledge(event.opened.resume_after_seq)
            self.is_open = True
        elif kind == "committed":
            self._note(event.committed.errors)
            self._acknowledge(event.committed.through_seq)
        elif kind == "draining":
            self.is_draining = True
        elif kind == "summary":
            self._note(event.summary.errors)
            self._acknowledge(event.summary.through_seq)
            self.summary = event.summary

    def result(self, summary: IngestSummary) -> LoadResult:
        """Makes the result of the last message of the service."""
        refused = [
            RefusedRow(self._starts[seq - 1] + index, error.id, error.field, error.code, error.message)
            for (seq, index), error in sorted(self._errors.items())
        ]
        counts = (summary.rows_written, summary.rows_skipped, summary.rows_rejected)
        return LoadResult(summary.ingest_id, *counts, refused)

    def advance(self) -> int:
        """Returns a number that grows with every progress: an attempt that makes some does not count as vain."""
        return self._rows_read + self._committed_seq

    def _note(self, errors: Any) -> None:
        for error in errors:
            self._errors[error.seq, error.index] = error

    def _acknowledge(self, through_seq: int) -> None:
        if through_seq < self._committed_seq:
            raise RuntimeError("The service has fewer committed batches than before: was the database replaced?")
        self._committed_seq = through_seq
        while self._unacknowledged and self._unacknowledged[0].seq <= through_seq:
            self._count(self._unacknowledged.popleft())

    def _count(self, batch: Batch) -> None:
        self._rows_committed += len(batch.rows)
        self._progress(LoadProgress(self._rows_read, self._rows_committed, self._rows_resumed))


class Attempts:
    """Counts attempts without progress, and says how long to wait before the next."""

    def __init__(self) -> None:
        self._vain = 0

    def wait_after(self, error: Any, has_advanced: bool) -> float:
        """Returns the seconds to wait. Raises the error when another attempt is pointless."""
        self._vain = 1 if has_advanced else self._vain + 1
        least = retry_after(error)
        if least is None or self._vain == ATTEMPTS_MAX:
            raise error
        # Exponential backoff with jitter: the clients of a restarted service must not all return at once.
        return max(least, random.random() * min(WAIT_MAX_SECONDS, WAIT_FIRST_SECONDS * 2**self._vain))


def make_batch_request(batch: Batch) -> IngestRequest:
    """Makes the message of a batch."""
    return IngestRequest(batch=IngestBatch(seq=batch.seq, rows=batch.rows))
