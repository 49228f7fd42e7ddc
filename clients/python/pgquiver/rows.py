"""Rows: mappings, texts, messages, pandas' frames and columns become messages, and messages become batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Iterator, List, Mapping, Optional, Sequence, Union

from .v1.embeddings_pb2 import EmbeddingInput
from .values import Vector, encode_field, encode_vector, fill_struct

# A batch is complete at this many bytes or rows: large enough to be fast, small enough to be sent again.
BATCH_BYTES = 1024 * 1024
BATCH_ROWS = 10_000

# The names that columns have in other tools; the same as those of the command line.
CONTENT = ("content", "text", "document", "chunk")
EMBEDDING = ("embedding", "vector", "values")
_KNOWN = frozenset({*CONTENT, *EMBEDDING, "id", "metadata", "created_at"})

RowLike = Union[str, Mapping[str, Any], EmbeddingInput]


@dataclass
class Batch:
    """Rows that follow each other, and that the service stores together. `seq` is 1, 2, 3, …, `start` the index of the first row."""

    seq: int
    start: int
    rows: List[EmbeddingInput]


class BatchCutter:
    """
    Cuts rows into batches. The cuts depend on the rows only, so that a load that goes on later has the same rows in the batch of a
    number.
    """

    def __init__(self) -> None:
        self._batch = Batch(1, 0, [])
        self._bytes = 0

    def add(self, row: RowLike) -> Optional[Batch]:
        """Adds a row, and returns the batch if it is complete."""
        index = self._batch.start + len(self._batch.rows)
        try:
            message = to_message(row)
        except (TypeError, ValueError) as error:
            raise type(error)(f"row {index}: {error}") if type(error) in (TypeError, ValueError) else ValueError(
                f"row {index}: {error}"
            ) from error
        self._batch.rows.append(message)
        self._bytes += message.ByteSize()
        return self.cut() if self._bytes >= BATCH_BYTES or len(self._batch.rows) == BATCH_ROWS else None

    def cut(self) -> Optional[Batch]:
        """Returns the rows that are left, None without any."""
        batch = self._batch
        if not batch.rows:
            return None
        self._batch, self._bytes = Batch(batch.seq + 1, batch.start + len(batch.rows), []), 0
        return batch


def cut_batches(rows: Iterable[RowLike]) -> Iterator[Batch]:
    """Cuts rows into batches."""
    cutter = BatchCutter()
    for row in read_rows(rows):
        batch = cutter.add(row)
        if batch is not None:
            yield batch
    rest = cutter.cut()
    if rest is not None:
        yield rest


def read_rows(rows: Any) -> Iterable[RowLike]:
    """Returns the rows of a pandas DataFrame, one at a time, and other iterables as they are."""
    if hasattr(rows, "itertuples") and hasattr(rows, "columns"):
        names = [str(name) for name in rows.columns]
        return (
            {name: value for name, value in zip(names, values) if not _is_missing(value)}
            for values in rows.itertuples(index=False, name=None)
        )
    return rows


def zip_rows(
    contents: Iterable[str],
    embeddings: Optional[Iterable[Vector]] = None,
    ids: Optional[Iterable[Any]] = None,
    metadata: Optional[Iterable[Mapping[str, Any]]] = None,
) -> Iterator[Mapping[str, Any]]:
    """Makes rows of columns, such as a numpy array of vectors. Raises ValueError when one column is shorter than another."""
    columns = {"content": contents, "embedding": embeddings, "id": ids, "metadata": metadata}
    iterators = {name: iter(column) for name, column in columns.items() if column is not None}
    end = object()
    while True:
        values = {name: next(iterator, end) for name, iterator in iterators.items()}
        if any(value is end for value in values.values()):
            if not all(value is end for value in values.values()):
                raise ValueError(f"the columns {', '.join(iterators)} differ in length")
            return
        yield values


def to_message(row: RowLike) -> EmbeddingInput:
    """Makes a message of a row. Columns that are not the row's own are metadata."""
    if isinstance(row, EmbeddingInput):
        return row
    if isinstance(row, str):
        return EmbeddingInput(content=row)
    if not isinstance(row, Mapping):
        raise TypeError(f"a row is a mapping, a text or an EmbeddingInput, not {type(row).__name__}")
    content = _pick(row, CONTENT)
    if not isinstance(content, str):
        raise ValueError(f"no text: one of {', '.join(CONTENT)} must be a string")
    message = EmbeddingInput(content=content)
    vector = encode_vector(_pick(row, EMBEDDING))
    if vector:
        message.MergeFromString(encode_field(3, vector))
    if row.get("id") not in (None, ""):
        message.id = str(row["id"])
    if row.get("created_at") is not None:
        message.created_at = int(row["created_at"])
    fill_struct(message.metadata, row.get("metadata") or {})
    if len(row) > 1:
        fill_struct(message.metadata, {key: value for key, value in row.items() if key not in _KNOWN})
    return message


def _pick(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
