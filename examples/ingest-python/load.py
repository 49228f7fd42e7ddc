"""The state of a load: its progress, and the batches kept until they are committed."""

import os
import sys
import threading
import time
from collections import deque

from rows import read_batches
from service import IngestFinish, IngestRequest

# Maximum number of unacknowledged batches: bounds the memory. The service commits up to 4 MiB at a time.
UNACKNOWLEDGED_MAX = 16


class Load:
    """The state of a load, across all its sessions, shared with gRPC's sending thread: `_changed` guards it."""

    def __init__(self, path):
        self.is_open = False  # whether the service has accepted the stream
        self.committed_seq = 0  # every batch up to this one is committed
        self.rows_read = 0
        self.failure = None  # why the file cannot be read
        self._rows_committed = 0
        self._bytes_committed = 0
        self._file_bytes = os.path.getsize(path)
        self._batches = read_batches(path)
        self._unacknowledged = deque()
        self._reported = set()
        self._session = 0
        self._changed = threading.Condition()
        self._started_at = self._shown_at = time.monotonic()

    def begin_session(self):
        """Begins a session and returns its number, which `next_request` needs."""
        self.is_open = False
        return self._session

    def end_session(self):
        """Ends the session: makes its sending thread, which may be waiting in `next_request`, return."""
        with self._changed:
            self._session += 1
            self._changed.notify_all()

    def next_request(self, seq, session):
        """Returns the request after batch `seq`: the next batch or the finish. None when the session has ended."""
        with self._changed:
            while self._session == session:
                kept = next((batch for batch in self._unacknowledged if batch.seq > seq), None)
                if self.is_open and kept is not None:
                    return kept.request
                if self.is_open and len(self._unacknowledged) < UNACKNOWLEDGED_MAX:
                    try:
                        batch = next(self._batches, None)
                    except (OSError, ValueError) as error:
                        self.failure = error
                        return None
                    if batch is None:
                        # End-to-end check: the service refuses to complete if its own row count differs.
                        return IngestRequest(finish=IngestFinish(rows=self.rows_read))
                    self.rows_read += len(batch.lines)
                    # A batch up to committed_seq was sent and committed by an earlier run of this ingest.
                    if batch.seq > self.committed_seq:
                        self._unacknowledged.append(batch)
                    else:
                        self._count(batch)
                else:
                    self._changed.wait()
        return None

    def resume(self, through_seq):
        """Continues after the last committed batch: acknowledgements may have been lost with the connection."""
        if through_seq < self.committed_seq:
            raise ValueError("The service has fewer committed batches than before: was the database replaced?")
        with self._changed:
            self.is_open = True
            self.acknowledge(through_seq)

    def acknowledge(self, through_seq):
        """Forgets the batches up to this number, which are committed."""
        with self._changed:
            self.committed_seq = through_seq
            while self._unacknowledged and self._unacknowledged[0].seq <= through_seq:
                self._count(self._unacknowledged.popleft())
            self._changed.notify_all()

    def _count(self, batch):
        self._rows_committed += len(batch.lines)
        self._bytes_committed += batch.bytes

    def report(self, errors):
        """Prints why rows were refused, once per row: the summary repeats errors whose first report may be lost."""
        for error in errors:
            place = f"batch {error.seq}, row {error.index}"
            if place in self._reported:
                continue
            self._reported.add(place)
            with self._changed:
                lines = next((batch.lines for batch in self._unacknowledged if batch.seq == error.seq), None)
            where = f"line {lines[error.index]}" if lines else place
            say(f"Refused {where} (id '{error.id}'): {error.field}: {error.message}")

    def progress(self):
        """A progress bar of the committed bytes, with numbers."""
        share = min(1, self._bytes_committed / self._file_bytes) if self._file_bytes else 1
        per_second = self._rows_committed / max(1e-9, time.monotonic() - self._started_at)
        bar = ("#" * int(share * 30)).ljust(30, "-")
        return f"[{bar}] {self.rows_read} rows read, {self._rows_committed} committed, {per_second:.0f} rows/s"

    def show_progress(self):
        if time.monotonic() - self._shown_at > (0.2 if sys.stderr.isatty() else 10):
            self._shown_at = time.monotonic()
            show(self.progress())


def show(text):
    """Prints a text to standard error; on a terminal the next text overwrites it."""
    sys.stderr.write(f"\r{text}\x1b[K" if sys.stderr.isatty() else f"{text}\n")
    sys.stderr.flush()


def say(text):
    """Prints a line to standard error."""
    show(f"{text}\n" if sys.stderr.isatty() else text)
