"""A file of rows as the batches to send."""

import array
import base64
import json
import sys

from service import IngestRequest

# A batch has so many bytes or rows: enough to be fast, few enough to be sent again.
BATCH_BYTES = 1024 * 1024
BATCH_ROWS = 10_000


class Batch:
    """Some rows of the file: the request that sends them, the line of each, and their bytes in the file."""

    def __init__(self, seq):
        self.seq, self.lines, self.bytes = seq, [], 0
        self.request = IngestRequest()
        self.request.batch.seq = seq


def read_batches(path):
    """
    Reads a file, a line at a time, and cuts it into batches. The cuts depend on the file alone, so that
    every run of an ingest gives the same rows the same number: only then can it go on where it stood.
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
    """The vector as little-endian float32. Without one the service embeds the text."""
    if vector is None:
        return b""
    if isinstance(vector, str):
        return base64.b64decode(vector, validate=True)
    floats = array.array("f", vector)  # with numpy: numpy.asarray(vector, "<f4").tobytes()
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()
