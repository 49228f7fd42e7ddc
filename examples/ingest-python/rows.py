"""Reads a file of rows as batches."""

import array
import base64
import json
import sys

from service import IngestRequest

# A batch is complete at this many bytes or rows: large enough to be fast, small enough to resend.
BATCH_BYTES = 1024 * 1024
BATCH_ROWS = 10_000


class Batch:
    """A batch: consecutive rows of the file as a request, the line number of each, and their bytes in the file."""

    def __init__(self, seq):
        self.seq, self.lines, self.bytes = seq, [], 0
        self.request = IngestRequest()
        self.request.batch.seq = seq


def read_batches(path):
    """
    Reads a file line by line and splits it into batches. The split must depend only on the file: resuming
    is correct only if every run gives the same rows the same batch number.
    """
    batch, size = Batch(1), 0
    with open(path, "rb") as file:
        for number, text in enumerate(file, 1):
            batch.bytes += len(text)
            if not text.strip():
                continue
            row = batch.request.batch.rows.add()
            try:
                read_row(json.loads(text), row)
            except (AttributeError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            batch.lines.append(number)
            size += row.ByteSize()
            if size >= BATCH_BYTES or len(batch.lines) == BATCH_ROWS:
                yield batch
                batch, size = Batch(batch.seq + 1), 0
    if batch.lines:
        yield batch


def read_row(fields, row):
    if not isinstance(fields.get("content"), str):
        raise ValueError("'content' must be a string")
    row.id = fields.get("id") or ""
    row.content = fields["content"]
    row.embedding = read_vector(fields.get("embedding"))
    row.metadata.update(fields.get("metadata") or {})
    row.created_at = fields.get("created_at") or 0


def read_vector(vector):
    """Encodes a vector as little-endian float32; empty without a vector, and the service then embeds the text."""
    if vector is None:
        return b""
    if isinstance(vector, str):
        return base64.b64decode(vector, validate=True)
    floats = array.array("f", vector)  # with numpy: numpy.asarray(vector, "<f4").tobytes()
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()
