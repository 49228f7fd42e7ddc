from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
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

class VectorStoreFileStage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VECTOR_STORE_FILE_STAGE_UNSPECIFIED: _ClassVar[VectorStoreFileStage]
    VECTOR_STORE_FILE_STAGE_WAITING: _ClassVar[VectorStoreFileStage]
    VECTOR_STORE_FILE_STAGE_READING: _ClassVar[VectorStoreFileStage]
    VECTOR_STORE_FILE_STAGE_EMBEDDING: _ClassVar[VectorStoreFileStage]
    VECTOR_STORE_FILE_STAGE_STORING: _ClassVar[VectorStoreFileStage]

class ChunkingStrategyType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHUNKING_STRATEGY_TYPE_UNSPECIFIED: _ClassVar[ChunkingStrategyType]
    CHUNKING_STRATEGY_TYPE_AUTO: _ClassVar[ChunkingStrategyType]
    CHUNKING_STRATEGY_TYPE_STATIC: _ClassVar[ChunkingStrategyType]
    CHUNKING_STRATEGY_TYPE_CHARACTERS: _ClassVar[ChunkingStrategyType]

class AppliedChunkingStrategyType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPLIED_CHUNKING_STRATEGY_TYPE_UNSPECIFIED: _ClassVar[AppliedChunkingStrategyType]
    APPLIED_CHUNKING_STRATEGY_TYPE_STATIC: _ClassVar[AppliedChunkingStrategyType]
    APPLIED_CHUNKING_STRATEGY_TYPE_OTHER: _ClassVar[AppliedChunkingStrategyType]

class VectorStoreFileStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VECTOR_STORE_FILE_STATUS_UNSPECIFIED: _ClassVar[VectorStoreFileStatus]
    VECTOR_STORE_FILE_STATUS_IN_PROGRESS: _ClassVar[VectorStoreFileStatus]
    VECTOR_STORE_FILE_STATUS_COMPLETED: _ClassVar[VectorStoreFileStatus]
    VECTOR_STORE_FILE_STATUS_CANCELLED: _ClassVar[VectorStoreFileStatus]
    VECTOR_STORE_FILE_STATUS_FAILED: _ClassVar[VectorStoreFileStatus]

class VectorStoreFileErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VECTOR_STORE_FILE_ERROR_CODE_UNSPECIFIED: _ClassVar[VectorStoreFileErrorCode]
    VECTOR_STORE_FILE_ERROR_CODE_SERVER_ERROR: _ClassVar[VectorStoreFileErrorCode]
    VECTOR_STORE_FILE_ERROR_CODE_UNSUPPORTED_FILE: _ClassVar[VectorStoreFileErrorCode]
    VECTOR_STORE_FILE_ERROR_CODE_INVALID_FILE: _ClassVar[VectorStoreFileErrorCode]
VECTOR_STORE_FILE_STAGE_UNSPECIFIED: VectorStoreFileStage
VECTOR_STORE_FILE_STAGE_WAITING: VectorStoreFileStage
VECTOR_STORE_FILE_STAGE_READING: VectorStoreFileStage
VECTOR_STORE_FILE_STAGE_EMBEDDING: VectorStoreFileStage
VECTOR_STORE_FILE_STAGE_STORING: VectorStoreFileStage
CHUNKING_STRATEGY_TYPE_UNSPECIFIED: ChunkingStrategyType
CHUNKING_STRATEGY_TYPE_AUTO: ChunkingStrategyType
CHUNKING_STRATEGY_TYPE_STATIC: ChunkingStrategyType
CHUNKING_STRATEGY_TYPE_CHARACTERS: ChunkingStrategyType
APPLIED_CHUNKING_STRATEGY_TYPE_UNSPECIFIED: AppliedChunkingStrategyType
APPLIED_CHUNKING_STRATEGY_TYPE_STATIC: AppliedChunkingStrategyType
APPLIED_CHUNKING_STRATEGY_TYPE_OTHER: AppliedChunkingStrategyType
VECTOR_STORE_FILE_STATUS_UNSPECIFIED: VectorStoreFileStatus
VECTOR_STORE_FILE_STATUS_IN_PROGRESS: VectorStoreFileStatus
VECTOR_STORE_FILE_STATUS_COMPLETED: VectorStoreFileStatus
VECTOR_STORE_FILE_STATUS_CANCELLED: VectorStoreFileStatus
VECTOR_STORE_FILE_STATUS_FAILED: VectorStoreFileStatus
VECTOR_STORE_FILE_ERROR_CODE_UNSPECIFIED: VectorStoreFileErrorCode
VECTOR_STORE_FILE_ERROR_CODE_SERVER_ERROR: VectorStoreFileErrorCode
VECTOR_STORE_FILE_ERROR_CODE_UNSUPPORTED_FILE: VectorStoreFileErrorCode
VECTOR_STORE_FILE_ERROR_CODE_INVALID_FILE: VectorStoreFileErrorCode

class VectorStoreFile(_message.Message):
    __slots__ = ("id", "object", "usage_bytes", "created_at", "vector_store_id", "status", "last_error", "chunking_strategy", "attributes", "progress", "replaces_file_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    USAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    CHUNKING_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FILE_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    usage_bytes: int
    created_at: int
    vector_store_id: str
    status: VectorStoreFileStatus
    last_error: VectorStoreFileError
    chunking_strategy: AppliedChunkingStrategy
    attributes: _struct_pb2.Struct
    progress: VectorStoreFileProgress
    replaces_file_id: str
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., usage_bytes: _Optional[int] = ..., created_at: _Optional[int] = ..., vector_store_id: _Optional[str] = ..., status: _Optional[_Union[VectorStoreFileStatus, str]] = ..., last_error: _Optional[_Union[VectorStoreFileError, _Mapping]] = ..., chunking_strategy: _Optional[_Union[AppliedChunkingStrategy, _Mapping]] = ..., attributes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., progress: _Optional[_Union[VectorStoreFileProgress, _Mapping]] = ..., replaces_file_id: _Optional[str] = ...) -> None: ...

class VectorStoreFileProgress(_message.Message):
    __slots__ = ("stage", "bytes_read", "bytes_total", "pages_read", "pages_total", "chunks_embedded", "chunks_read", "chunks_reused")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    BYTES_READ_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    PAGES_READ_FIELD_NUMBER: _ClassVar[int]
    PAGES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_EMBEDDED_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_READ_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_REUSED_FIELD_NUMBER: _ClassVar[int]
    stage: VectorStoreFileStage
    bytes_read: int
    bytes_total: int
    pages_read: int
    pages_total: int
    chunks_embedded: int
    chunks_read: int
    chunks_reused: int
    def __init__(self, stage: _Optional[_Union[VectorStoreFileStage, str]] = ..., bytes_read: _Optional[int] = ..., bytes_total: _Optional[int] = ..., pages_read: _Optional[int] = ..., pages_total: _Optional[int] = ..., chunks_embedded: _Optional[int] = ..., chunks_read: _Optional[int] = ..., chunks_reused: _Optional[int] = ...) -> None: ...

class ChunkingStrategy(_message.Message):
    __slots__ = ("type", "static", "characters")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STATIC_FIELD_NUMBER: _ClassVar[int]
    CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    type: ChunkingStrategyType
    static: StaticChunking
    characters: CharacterChunking
    def __init__(self, type: _Optional[_Union[ChunkingStrategyType, str]] = ..., static: _Optional[_Union[StaticChunking, _Mapping]] = ..., characters: _Optional[_Union[CharacterChunking, _Mapping]] = ...) -> None: ...

class StaticChunking(_message.Message):
    __slots__ = ("max_chunk_size_tokens", "chunk_overlap_tokens")
    MAX_CHUNK_SIZE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_OVERLAP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    max_chunk_size_tokens: int
    chunk_overlap_tokens: int
    def __init__(self, max_chunk_size_tokens: _Optional[int] = ..., chunk_overlap_tokens: _Optional[int] = ...) -> None: ...

class CharacterChunking(_message.Message):
    __slots__ = ("max_chunk_size_characters", "chunk_overlap_characters")
    MAX_CHUNK_SIZE_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_OVERLAP_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    max_chunk_size_characters: int
    chunk_overlap_characters: int
    def __init__(self, max_chunk_size_characters: _Optional[int] = ..., chunk_overlap_characters: _Optional[int] = ...) -> None: ...

class AppliedChunkingStrategy(_message.Message):
    __slots__ = ("type", "static")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STATIC_FIELD_NUMBER: _ClassVar[int]
    type: AppliedChunkingStrategyType
    static: StaticChunking
    def __init__(self, type: _Optional[_Union[AppliedChunkingStrategyType, str]] = ..., static: _Optional[_Union[StaticChunking, _Mapping]] = ...) -> None: ...

class VectorStoreFileError(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: VectorStoreFileErrorCode
    message: str
    def __init__(self, code: _Optional[_Union[VectorStoreFileErrorCode, str]] = ..., message: _Optional[str] = ...) -> None: ...

class CreateVectorStoreFileRequest(_message.Message):
    __slots__ = ("vector_store_id", "file_id", "attributes", "chunking_strategy")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CHUNKING_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    file_id: str
    attributes: _struct_pb2.Struct
    chunking_strategy: ChunkingStrategy
    def __init__(self, vector_store_id: _Optional[str] = ..., file_id: _Optional[str] = ..., attributes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., chunking_strategy: _Optional[_Union[ChunkingStrategy, _Mapping]] = ...) -> None: ...

class ReplaceVectorStoreFileRequest(_message.Message):
    __slots__ = ("vector_store_id", "file_id", "new_file_id", "attributes", "chunking_strategy")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    NEW_FILE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CHUNKING_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    file_id: str
    new_file_id: str
    attributes: _struct_pb2.Struct
    chunking_strategy: ChunkingStrategy
    def __init__(self, vector_store_id: _Optional[str] = ..., file_id: _Optional[str] = ..., new_file_id: _Optional[str] = ..., attributes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., chunking_strategy: _Optional[_Union[ChunkingStrategy, _Mapping]] = ...) -> None: ...

class GetVectorStoreFileRequest(_message.Message):
    __slots__ = ("vector_store_id", "file_id")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    file_id: str
    def __init__(self, vector_store_id: _Optional[str] = ..., file_id: _Optional[str] = ...) -> None: ...

class WatchVectorStoreFileRequest(_message.Message):
    __slots__ = ("vector_store_id", "file_id")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    file_id: str
    def __init__(self, vector_store_id: _Optional[str] = ..., file_id: _Optional[str] = ...) -> None: ...

class ListVectorStoreFilesRequest(_message.Message):
    __slots__ = ("vector_store_id", "limit", "after", "before", "order", "filter")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    limit: int
    after: str
    before: str
    order: _paging_pb2.Order
    filter: VectorStoreFileStatus
    def __init__(self, vector_store_id: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ..., before: _Optional[str] = ..., order: _Optional[_Union[_paging_pb2.Order, str]] = ..., filter: _Optional[_Union[VectorStoreFileStatus, str]] = ...) -> None: ...

class ListVectorStoreFilesResponse(_message.Message):
    __slots__ = ("object", "data", "first_id", "last_id", "has_more")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[VectorStoreFile]
    first_id: str
    last_id: str
    has_more: bool
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[VectorStoreFile, _Mapping]]] = ..., first_id: _Optional[str] = ..., last_id: _Optional[str] = ..., has_more: bool = ...) -> None: ...

class UpdateVectorStoreFileRequest(_message.Message):
    __slots__ = ("vector_store_id", "file_id", "attributes", "update_mask")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    file_id: str
    attributes: _struct_pb2.Struct
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, vector_store_id: _Optional[str] = ..., file_id: _Optional[str] = ..., attributes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class DeleteVectorStoreFileRequest(_message.Message):
    __slots__ = ("vector_store_id", "file_id")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    file_id: str
    def __init__(self, vector_store_id: _Optional[str] = ..., file_id: _Optional[str] = ...) -> None: ...

class DeleteVectorStoreFileResponse(_message.Message):
    __slots__ = ("id", "object", "deleted")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    deleted: bool
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., deleted: bool = ...) -> None: ...

class GetVectorStoreFileContentRequest(_message.Message):
    __slots__ = ("vector_store_id", "file_id")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    file_id: str
    def __init__(self, vector_store_id: _Optional[str] = ..., file_id: _Optional[str] = ...) -> None: ...

class GetVectorStoreFileContentResponse(_message.Message):
    __slots__ = ("object", "data", "has_more", "next_page", "places")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[_embeddings_pb2.TextContent]
    has_more: bool
    next_page: str
    places: _containers.RepeatedCompositeFieldContainer[_embeddings_pb2.ChunkPlace]
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[_embeddings_pb2.TextContent, _Mapping]]] = ..., has_more: bool = ..., next_page: _Optional[str] = ..., places: _Optional[_Iterable[_Union[_embeddings_pb2.ChunkPlace, _Mapping]]] = ...) -> None: ...

class VectorStoreFileBatch(_message.Message):
    __slots__ = ("id", "object", "created_at", "vector_store_id", "status", "file_counts", "files_per_second", "seconds_left")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FILE_COUNTS_FIELD_NUMBER: _ClassVar[int]
    FILES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    created_at: int
    vector_store_id: str
    status: VectorStoreFileStatus
    file_counts: FileCounts
    files_per_second: float
    seconds_left: float
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., created_at: _Optional[int] = ..., vector_store_id: _Optional[str] = ..., status: _Optional[_Union[VectorStoreFileStatus, str]] = ..., file_counts: _Optional[_Union[FileCounts, _Mapping]] = ..., files_per_second: _Optional[float] = ..., seconds_left: _Optional[float] = ...) -> None: ...

class FileCounts(_message.Message):
    __slots__ = ("in_progress", "completed", "failed", "cancelled", "total")
    IN_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int
    def __init__(self, in_progress: _Optional[int] = ..., completed: _Optional[int] = ..., failed: _Optional[int] = ..., cancelled: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class CreateVectorStoreFileBatchRequest(_message.Message):
    __slots__ = ("vector_store_id", "file_ids", "files", "attributes", "chunking_strategy")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FILE_IDS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CHUNKING_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    file_ids: _containers.RepeatedScalarFieldContainer[str]
    files: _containers.RepeatedCompositeFieldContainer[VectorStoreFileBatchItem]
    attributes: _struct_pb2.Struct
    chunking_strategy: ChunkingStrategy
    def __init__(self, vector_store_id: _Optional[str] = ..., file_ids: _Optional[_Iterable[str]] = ..., files: _Optional[_Iterable[_Union[VectorStoreFileBatchItem, _Mapping]]] = ..., attributes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., chunking_strategy: _Optional[_Union[ChunkingStrategy, _Mapping]] = ...) -> None: ...

class VectorStoreFileBatchItem(_message.Message):
    __slots__ = ("file_id", "attributes", "chunking_strategy")
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CHUNKING_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    file_id: str
    attributes: _struct_pb2.Struct
    chunking_strategy: ChunkingStrategy
    def __init__(self, file_id: _Optional[str] = ..., attributes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., chunking_strategy: _Optional[_Union[ChunkingStrategy, _Mapping]] = ...) -> None: ...

class GetVectorStoreFileBatchRequest(_message.Message):
    __slots__ = ("vector_store_id", "batch_id")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    batch_id: str
    def __init__(self, vector_store_id: _Optional[str] = ..., batch_id: _Optional[str] = ...) -> None: ...

class WatchVectorStoreFileBatchRequest(_message.Message):
    __slots__ = ("vector_store_id", "batch_id")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    batch_id: str
    def __init__(self, vector_store_id: _Optional[str] = ..., batch_id: _Optional[str] = ...) -> None: ...

class CancelVectorStoreFileBatchRequest(_message.Message):
    __slots__ = ("vector_store_id", "batch_id")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    batch_id: str
    def __init__(self, vector_store_id: _Optional[str] = ..., batch_id: _Optional[str] = ...) -> None: ...

class ListVectorStoreFileBatchFilesRequest(_message.Message):
    __slots__ = ("vector_store_id", "batch_id", "limit", "after", "before", "order", "filter")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    batch_id: str
    limit: int
    after: str
    before: str
    order: _paging_pb2.Order
    filter: VectorStoreFileStatus
    def __init__(self, vector_store_id: _Optional[str] = ..., batch_id: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ..., before: _Optional[str] = ..., order: _Optional[_Union[_paging_pb2.Order, str]] = ..., filter: _Optional[_Union[VectorStoreFileStatus, str]] = ...) -> None: ...
