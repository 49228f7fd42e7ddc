from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from pgquiver.v1 import embeddings_pb2 as _embeddings_pb2
from pgquiver.v1 import options_pb2 as _options_pb2
from pgquiver.v1 import paging_pb2 as _paging_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Atomicity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATOMICITY_UNSPECIFIED: _ClassVar[Atomicity]
    ATOMICITY_BATCH: _ClassVar[Atomicity]
    ATOMICITY_STREAM: _ClassVar[Atomicity]

class OnError(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_ERROR_UNSPECIFIED: _ClassVar[OnError]
    ON_ERROR_ABORT_BATCH: _ClassVar[OnError]
    ON_ERROR_SKIP_ROW: _ClassVar[OnError]
    ON_ERROR_ABORT: _ClassVar[OnError]

class IngestState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INGEST_STATE_UNSPECIFIED: _ClassVar[IngestState]
    INGEST_STATE_OPEN: _ClassVar[IngestState]
    INGEST_STATE_COMPLETED: _ClassVar[IngestState]
    INGEST_STATE_ABORTED: _ClassVar[IngestState]
ATOMICITY_UNSPECIFIED: Atomicity
ATOMICITY_BATCH: Atomicity
ATOMICITY_STREAM: Atomicity
ON_ERROR_UNSPECIFIED: OnError
ON_ERROR_ABORT_BATCH: OnError
ON_ERROR_SKIP_ROW: OnError
ON_ERROR_ABORT: OnError
INGEST_STATE_UNSPECIFIED: IngestState
INGEST_STATE_OPEN: IngestState
INGEST_STATE_COMPLETED: IngestState
INGEST_STATE_ABORTED: IngestState

class IngestRequest(_message.Message):
    __slots__ = ("open", "batch", "finish")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    open: IngestOpen
    batch: IngestBatch
    finish: IngestFinish
    def __init__(self, open: _Optional[_Union[IngestOpen, _Mapping]] = ..., batch: _Optional[_Union[IngestBatch, _Mapping]] = ..., finish: _Optional[_Union[IngestFinish, _Mapping]] = ...) -> None: ...

class IngestOpen(_message.Message):
    __slots__ = ("vector_store_id", "ingest_id", "mode", "atomicity", "on_error", "dimensions", "max_row_errors", "total_rows")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    INGEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    ATOMICITY_FIELD_NUMBER: _ClassVar[int]
    ON_ERROR_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROW_ERRORS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_ROWS_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    ingest_id: str
    mode: _embeddings_pb2.WriteMode
    atomicity: Atomicity
    on_error: OnError
    dimensions: int
    max_row_errors: int
    total_rows: int
    def __init__(self, vector_store_id: _Optional[str] = ..., ingest_id: _Optional[str] = ..., mode: _Optional[_Union[_embeddings_pb2.WriteMode, str]] = ..., atomicity: _Optional[_Union[Atomicity, str]] = ..., on_error: _Optional[_Union[OnError, str]] = ..., dimensions: _Optional[int] = ..., max_row_errors: _Optional[int] = ..., total_rows: _Optional[int] = ...) -> None: ...

class IngestBatch(_message.Message):
    __slots__ = ("seq", "rows")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    seq: int
    rows: _containers.RepeatedCompositeFieldContainer[_embeddings_pb2.EmbeddingInput]
    def __init__(self, seq: _Optional[int] = ..., rows: _Optional[_Iterable[_Union[_embeddings_pb2.EmbeddingInput, _Mapping]]] = ...) -> None: ...

class IngestFinish(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    def __init__(self, rows: _Optional[int] = ...) -> None: ...

class IngestEvent(_message.Message):
    __slots__ = ("opened", "committed", "draining", "summary")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    opened: IngestOpened
    committed: IngestCommitted
    draining: IngestDraining
    summary: IngestSummary
    def __init__(self, opened: _Optional[_Union[IngestOpened, _Mapping]] = ..., committed: _Optional[_Union[IngestCommitted, _Mapping]] = ..., draining: _Optional[_Union[IngestDraining, _Mapping]] = ..., summary: _Optional[_Union[IngestSummary, _Mapping]] = ...) -> None: ...

class IngestOpened(_message.Message):
    __slots__ = ("ingest_id", "resume_after_seq", "message_bytes_max")
    INGEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    ingest_id: str
    resume_after_seq: int
    message_bytes_max: int
    def __init__(self, ingest_id: _Optional[str] = ..., resume_after_seq: _Optional[int] = ..., message_bytes_max: _Optional[int] = ...) -> None: ...

class IngestCommitted(_message.Message):
    __slots__ = ("through_seq", "rows_written", "rows_skipped", "rows_rejected", "errors")
    THROUGH_SEQ_FIELD_NUMBER: _ClassVar[int]
    ROWS_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    ROWS_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    ROWS_REJECTED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    through_seq: int
    rows_written: int
    rows_skipped: int
    rows_rejected: int
    errors: _containers.RepeatedCompositeFieldContainer[RowError]
    def __init__(self, through_seq: _Optional[int] = ..., rows_written: _Optional[int] = ..., rows_skipped: _Optional[int] = ..., rows_rejected: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[RowError, _Mapping]]] = ...) -> None: ...

class IngestDraining(_message.Message):
    __slots__ = ("through_seq",)
    THROUGH_SEQ_FIELD_NUMBER: _ClassVar[int]
    through_seq: int
    def __init__(self, through_seq: _Optional[int] = ...) -> None: ...

class RowError(_message.Message):
    __slots__ = ("seq", "index", "id", "code", "field", "message")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    seq: int
    index: int
    id: str
    code: str
    field: str
    message: str
    def __init__(self, seq: _Optional[int] = ..., index: _Optional[int] = ..., id: _Optional[str] = ..., code: _Optional[str] = ..., field: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class IngestSummary(_message.Message):
    __slots__ = ("object", "ingest_id", "vector_store_id", "state", "through_seq", "rows_written", "rows_skipped", "rows_rejected", "errors", "created_at", "row_bytes", "total_rows", "rows_per_second", "seconds_left")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    INGEST_ID_FIELD_NUMBER: _ClassVar[int]
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    THROUGH_SEQ_FIELD_NUMBER: _ClassVar[int]
    ROWS_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    ROWS_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    ROWS_REJECTED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    ROW_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    object: str
    ingest_id: str
    vector_store_id: str
    state: IngestState
    through_seq: int
    rows_written: int
    rows_skipped: int
    rows_rejected: int
    errors: _containers.RepeatedCompositeFieldContainer[RowError]
    created_at: int
    row_bytes: int
    total_rows: int
    rows_per_second: float
    seconds_left: float
    def __init__(self, object: _Optional[str] = ..., ingest_id: _Optional[str] = ..., vector_store_id: _Optional[str] = ..., state: _Optional[_Union[IngestState, str]] = ..., through_seq: _Optional[int] = ..., rows_written: _Optional[int] = ..., rows_skipped: _Optional[int] = ..., rows_rejected: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[RowError, _Mapping]]] = ..., created_at: _Optional[int] = ..., row_bytes: _Optional[int] = ..., total_rows: _Optional[int] = ..., rows_per_second: _Optional[float] = ..., seconds_left: _Optional[float] = ...) -> None: ...

class GetIngestRequest(_message.Message):
    __slots__ = ("vector_store_id", "ingest_id")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    INGEST_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    ingest_id: str
    def __init__(self, vector_store_id: _Optional[str] = ..., ingest_id: _Optional[str] = ...) -> None: ...

class ListIngestsRequest(_message.Message):
    __slots__ = ("vector_store_id", "limit", "after", "order", "state")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    limit: int
    after: str
    order: _paging_pb2.Order
    state: IngestState
    def __init__(self, vector_store_id: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ..., order: _Optional[_Union[_paging_pb2.Order, str]] = ..., state: _Optional[_Union[IngestState, str]] = ...) -> None: ...

class ListIngestsResponse(_message.Message):
    __slots__ = ("object", "data", "first_id", "last_id", "has_more")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[IngestSummary]
    first_id: str
    last_id: str
    has_more: bool
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[IngestSummary, _Mapping]]] = ..., first_id: _Optional[str] = ..., last_id: _Optional[str] = ..., has_more: bool = ...) -> None: ...

class WatchIngestRequest(_message.Message):
    __slots__ = ("vector_store_id", "ingest_id")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    INGEST_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    ingest_id: str
    def __init__(self, vector_store_id: _Optional[str] = ..., ingest_id: _Optional[str] = ...) -> None: ...

class AbortIngestRequest(_message.Message):
    __slots__ = ("vector_store_id", "ingest_id")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    INGEST_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    ingest_id: str
    def __init__(self, vector_store_id: _Optional[str] = ..., ingest_id: _Optional[str] = ...) -> None: ...

class ExportEmbeddingsRequest(_message.Message):
    __slots__ = ("vector_store_id", "after")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    after: str
    def __init__(self, vector_store_id: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class ExportedEmbedding(_message.Message):
    __slots__ = ("id", "content", "embedding", "metadata", "created_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    content: str
    embedding: bytes
    metadata: _struct_pb2.Struct
    created_at: int
    def __init__(self, id: _Optional[str] = ..., content: _Optional[str] = ..., embedding: _Optional[bytes] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., created_at: _Optional[int] = ...) -> None: ...
