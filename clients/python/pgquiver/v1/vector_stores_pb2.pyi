from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from pgquiver.v1 import indexes_pb2 as _indexes_pb2
from pgquiver.v1 import options_pb2 as _options_pb2
from pgquiver.v1 import paging_pb2 as _paging_pb2
from pgquiver.v1 import vector_store_files_pb2 as _vector_store_files_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReembeddingStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REEMBEDDING_STATUS_UNSPECIFIED: _ClassVar[ReembeddingStatus]
    REEMBEDDING_STATUS_IN_PROGRESS: _ClassVar[ReembeddingStatus]
    REEMBEDDING_STATUS_COMPLETED: _ClassVar[ReembeddingStatus]
    REEMBEDDING_STATUS_FAILED: _ClassVar[ReembeddingStatus]
    REEMBEDDING_STATUS_CANCELLED: _ClassVar[ReembeddingStatus]

class ReembeddingPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REEMBEDDING_PHASE_UNSPECIFIED: _ClassVar[ReembeddingPhase]
    REEMBEDDING_PHASE_COPYING: _ClassVar[ReembeddingPhase]
    REEMBEDDING_PHASE_INDEXING: _ClassVar[ReembeddingPhase]
    REEMBEDDING_PHASE_SWITCHING: _ClassVar[ReembeddingPhase]
    REEMBEDDING_PHASE_CLEANING: _ClassVar[ReembeddingPhase]

class VectorStoreStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VECTOR_STORE_STATUS_UNSPECIFIED: _ClassVar[VectorStoreStatus]
    VECTOR_STORE_STATUS_EXPIRED: _ClassVar[VectorStoreStatus]
    VECTOR_STORE_STATUS_IN_PROGRESS: _ClassVar[VectorStoreStatus]
    VECTOR_STORE_STATUS_COMPLETED: _ClassVar[VectorStoreStatus]

class ExpiryAnchor(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPIRY_ANCHOR_UNSPECIFIED: _ClassVar[ExpiryAnchor]
    EXPIRY_ANCHOR_LAST_ACTIVE_AT: _ClassVar[ExpiryAnchor]
REEMBEDDING_STATUS_UNSPECIFIED: ReembeddingStatus
REEMBEDDING_STATUS_IN_PROGRESS: ReembeddingStatus
REEMBEDDING_STATUS_COMPLETED: ReembeddingStatus
REEMBEDDING_STATUS_FAILED: ReembeddingStatus
REEMBEDDING_STATUS_CANCELLED: ReembeddingStatus
REEMBEDDING_PHASE_UNSPECIFIED: ReembeddingPhase
REEMBEDDING_PHASE_COPYING: ReembeddingPhase
REEMBEDDING_PHASE_INDEXING: ReembeddingPhase
REEMBEDDING_PHASE_SWITCHING: ReembeddingPhase
REEMBEDDING_PHASE_CLEANING: ReembeddingPhase
VECTOR_STORE_STATUS_UNSPECIFIED: VectorStoreStatus
VECTOR_STORE_STATUS_EXPIRED: VectorStoreStatus
VECTOR_STORE_STATUS_IN_PROGRESS: VectorStoreStatus
VECTOR_STORE_STATUS_COMPLETED: VectorStoreStatus
EXPIRY_ANCHOR_UNSPECIFIED: ExpiryAnchor
EXPIRY_ANCHOR_LAST_ACTIVE_AT: ExpiryAnchor

class ReembedVectorStoreRequest(_message.Message):
    __slots__ = ("vector_store_id",)
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    def __init__(self, vector_store_id: _Optional[str] = ...) -> None: ...

class GetVectorStoreReembeddingRequest(_message.Message):
    __slots__ = ("vector_store_id",)
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    def __init__(self, vector_store_id: _Optional[str] = ...) -> None: ...

class WatchVectorStoreReembeddingRequest(_message.Message):
    __slots__ = ("vector_store_id",)
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    def __init__(self, vector_store_id: _Optional[str] = ...) -> None: ...

class CancelVectorStoreReembeddingRequest(_message.Message):
    __slots__ = ("vector_store_id",)
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    def __init__(self, vector_store_id: _Optional[str] = ...) -> None: ...

class VectorStoreReembedding(_message.Message):
    __slots__ = ("object", "vector_store_id", "status", "phase", "model", "dimensions", "former_model", "former_dimensions", "rows", "rows_embedded", "tokens", "comparison", "created_at", "completed_at", "last_error", "rows_per_second", "seconds_left")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    FORMER_MODEL_FIELD_NUMBER: _ClassVar[int]
    FORMER_DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_EMBEDDED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    object: str
    vector_store_id: str
    status: ReembeddingStatus
    phase: ReembeddingPhase
    model: str
    dimensions: int
    former_model: str
    former_dimensions: int
    rows: int
    rows_embedded: int
    tokens: int
    comparison: ReembeddingComparison
    created_at: int
    completed_at: int
    last_error: str
    rows_per_second: float
    seconds_left: float
    def __init__(self, object: _Optional[str] = ..., vector_store_id: _Optional[str] = ..., status: _Optional[_Union[ReembeddingStatus, str]] = ..., phase: _Optional[_Union[ReembeddingPhase, str]] = ..., model: _Optional[str] = ..., dimensions: _Optional[int] = ..., former_model: _Optional[str] = ..., former_dimensions: _Optional[int] = ..., rows: _Optional[int] = ..., rows_embedded: _Optional[int] = ..., tokens: _Optional[int] = ..., comparison: _Optional[_Union[ReembeddingComparison, _Mapping]] = ..., created_at: _Optional[int] = ..., completed_at: _Optional[int] = ..., last_error: _Optional[str] = ..., rows_per_second: _Optional[float] = ..., seconds_left: _Optional[float] = ...) -> None: ...

class ReembeddingComparison(_message.Message):
    __slots__ = ("queries", "results", "overlap")
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    queries: int
    results: int
    overlap: float
    def __init__(self, queries: _Optional[int] = ..., results: _Optional[int] = ..., overlap: _Optional[float] = ...) -> None: ...

class VectorStoreAlias(_message.Message):
    __slots__ = ("name", "object", "vector_store_id", "created_at", "updated_at")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    object: str
    vector_store_id: str
    created_at: int
    updated_at: int
    def __init__(self, name: _Optional[str] = ..., object: _Optional[str] = ..., vector_store_id: _Optional[str] = ..., created_at: _Optional[int] = ..., updated_at: _Optional[int] = ...) -> None: ...

class CreateVectorStoreAliasRequest(_message.Message):
    __slots__ = ("name", "vector_store_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    vector_store_id: str
    def __init__(self, name: _Optional[str] = ..., vector_store_id: _Optional[str] = ...) -> None: ...

class GetVectorStoreAliasRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListVectorStoreAliasesRequest(_message.Message):
    __slots__ = ("limit", "after")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    limit: int
    after: str
    def __init__(self, limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListVectorStoreAliasesResponse(_message.Message):
    __slots__ = ("object", "data", "has_more")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[VectorStoreAlias]
    has_more: bool
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[VectorStoreAlias, _Mapping]]] = ..., has_more: bool = ...) -> None: ...

class UpdateVectorStoreAliasRequest(_message.Message):
    __slots__ = ("name", "vector_store_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    vector_store_id: str
    def __init__(self, name: _Optional[str] = ..., vector_store_id: _Optional[str] = ...) -> None: ...

class DeleteVectorStoreAliasRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteVectorStoreAliasResponse(_message.Message):
    __slots__ = ("name", "object", "deleted")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    name: str
    object: str
    deleted: bool
    def __init__(self, name: _Optional[str] = ..., object: _Optional[str] = ..., deleted: bool = ...) -> None: ...

class VectorStore(_message.Message):
    __slots__ = ("id", "object", "created_at", "name", "description", "usage_bytes", "file_counts", "status", "expires_after", "expires_at", "last_active_at", "metadata", "dimensions", "embedding_model", "embedding_count", "precision", "language", "index_state", "restrict_readers")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    USAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FILE_COUNTS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AFTER_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_ACTIVE_AT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_MODEL_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_COUNT_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    INDEX_STATE_FIELD_NUMBER: _ClassVar[int]
    RESTRICT_READERS_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    created_at: int
    name: str
    description: str
    usage_bytes: int
    file_counts: _vector_store_files_pb2.FileCounts
    status: VectorStoreStatus
    expires_after: ExpiresAfter
    expires_at: int
    last_active_at: int
    metadata: _containers.ScalarMap[str, str]
    dimensions: int
    embedding_model: str
    embedding_count: int
    precision: _indexes_pb2.Precision
    language: str
    index_state: _indexes_pb2.IndexState
    restrict_readers: bool
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., created_at: _Optional[int] = ..., name: _Optional[str] = ..., description: _Optional[str] = ..., usage_bytes: _Optional[int] = ..., file_counts: _Optional[_Union[_vector_store_files_pb2.FileCounts, _Mapping]] = ..., status: _Optional[_Union[VectorStoreStatus, str]] = ..., expires_after: _Optional[_Union[ExpiresAfter, _Mapping]] = ..., expires_at: _Optional[int] = ..., last_active_at: _Optional[int] = ..., metadata: _Optional[_Mapping[str, str]] = ..., dimensions: _Optional[int] = ..., embedding_model: _Optional[str] = ..., embedding_count: _Optional[int] = ..., precision: _Optional[_Union[_indexes_pb2.Precision, str]] = ..., language: _Optional[str] = ..., index_state: _Optional[_Union[_indexes_pb2.IndexState, str]] = ..., restrict_readers: bool = ...) -> None: ...

class ExpiresAfter(_message.Message):
    __slots__ = ("anchor", "days")
    ANCHOR_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    anchor: ExpiryAnchor
    days: int
    def __init__(self, anchor: _Optional[_Union[ExpiryAnchor, str]] = ..., days: _Optional[int] = ...) -> None: ...

class CreateVectorStoreRequest(_message.Message):
    __slots__ = ("name", "description", "file_ids", "expires_after", "chunking_strategy", "metadata", "id", "dimensions", "precision", "language", "restrict_readers")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    FILE_IDS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AFTER_FIELD_NUMBER: _ClassVar[int]
    CHUNKING_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    RESTRICT_READERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    file_ids: _containers.RepeatedScalarFieldContainer[str]
    expires_after: ExpiresAfter
    chunking_strategy: _vector_store_files_pb2.ChunkingStrategy
    metadata: _containers.ScalarMap[str, str]
    id: str
    dimensions: int
    precision: _indexes_pb2.Precision
    language: str
    restrict_readers: bool
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., file_ids: _Optional[_Iterable[str]] = ..., expires_after: _Optional[_Union[ExpiresAfter, _Mapping]] = ..., chunking_strategy: _Optional[_Union[_vector_store_files_pb2.ChunkingStrategy, _Mapping]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., id: _Optional[str] = ..., dimensions: _Optional[int] = ..., precision: _Optional[_Union[_indexes_pb2.Precision, str]] = ..., language: _Optional[str] = ..., restrict_readers: bool = ...) -> None: ...

class GetVectorStoreRequest(_message.Message):
    __slots__ = ("vector_store_id",)
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    def __init__(self, vector_store_id: _Optional[str] = ...) -> None: ...

class ListVectorStoresRequest(_message.Message):
    __slots__ = ("limit", "after", "before", "order")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    limit: int
    after: str
    before: str
    order: _paging_pb2.Order
    def __init__(self, limit: _Optional[int] = ..., after: _Optional[str] = ..., before: _Optional[str] = ..., order: _Optional[_Union[_paging_pb2.Order, str]] = ...) -> None: ...

class ListVectorStoresResponse(_message.Message):
    __slots__ = ("object", "data", "first_id", "last_id", "has_more")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[VectorStore]
    first_id: str
    last_id: str
    has_more: bool
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[VectorStore, _Mapping]]] = ..., first_id: _Optional[str] = ..., last_id: _Optional[str] = ..., has_more: bool = ...) -> None: ...

class UpdateVectorStoreRequest(_message.Message):
    __slots__ = ("vector_store_id", "name", "expires_after", "metadata", "update_mask", "restrict_readers")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AFTER_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    RESTRICT_READERS_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    name: str
    expires_after: ExpiresAfter
    metadata: _containers.ScalarMap[str, str]
    update_mask: _field_mask_pb2.FieldMask
    restrict_readers: bool
    def __init__(self, vector_store_id: _Optional[str] = ..., name: _Optional[str] = ..., expires_after: _Optional[_Union[ExpiresAfter, _Mapping]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., restrict_readers: bool = ...) -> None: ...

class DeleteVectorStoreRequest(_message.Message):
    __slots__ = ("vector_store_id",)
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    def __init__(self, vector_store_id: _Optional[str] = ...) -> None: ...

class DeleteVectorStoreResponse(_message.Message):
    __slots__ = ("id", "object", "deleted")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    deleted: bool
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., deleted: bool = ...) -> None: ...
