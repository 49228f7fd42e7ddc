from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from pgquiver.v1 import filters_pb2 as _filters_pb2
from pgquiver.v1 import indexes_pb2 as _indexes_pb2
from pgquiver.v1 import options_pb2 as _options_pb2
from pgquiver.v1 import paging_pb2 as _paging_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WriteMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WRITE_MODE_UNSPECIFIED: _ClassVar[WriteMode]
    WRITE_MODE_INSERT: _ClassVar[WriteMode]
    WRITE_MODE_UPSERT: _ClassVar[WriteMode]
    WRITE_MODE_SKIP_EXISTING: _ClassVar[WriteMode]

class EmbeddingField(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EMBEDDING_FIELD_UNSPECIFIED: _ClassVar[EmbeddingField]
    EMBEDDING_FIELD_CONTENT: _ClassVar[EmbeddingField]
    EMBEDDING_FIELD_METADATA: _ClassVar[EmbeddingField]
    EMBEDDING_FIELD_EMBEDDING: _ClassVar[EmbeddingField]
WRITE_MODE_UNSPECIFIED: WriteMode
WRITE_MODE_INSERT: WriteMode
WRITE_MODE_UPSERT: WriteMode
WRITE_MODE_SKIP_EXISTING: WriteMode
EMBEDDING_FIELD_UNSPECIFIED: EmbeddingField
EMBEDDING_FIELD_CONTENT: EmbeddingField
EMBEDDING_FIELD_METADATA: EmbeddingField
EMBEDDING_FIELD_EMBEDDING: EmbeddingField

class Embedding(_message.Message):
    __slots__ = ("id", "object", "vector_store_id", "content", "metadata", "created_at", "embedding", "place")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    vector_store_id: str
    content: str
    metadata: _struct_pb2.Struct
    created_at: int
    embedding: _containers.RepeatedScalarFieldContainer[float]
    place: ChunkPlace
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., vector_store_id: _Optional[str] = ..., content: _Optional[str] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., created_at: _Optional[int] = ..., embedding: _Optional[_Iterable[float]] = ..., place: _Optional[_Union[ChunkPlace, _Mapping]] = ...) -> None: ...

class ChunkPlace(_message.Message):
    __slots__ = ("page", "last_page", "headings", "start_index", "end_index")
    PAGE_FIELD_NUMBER: _ClassVar[int]
    LAST_PAGE_FIELD_NUMBER: _ClassVar[int]
    HEADINGS_FIELD_NUMBER: _ClassVar[int]
    START_INDEX_FIELD_NUMBER: _ClassVar[int]
    END_INDEX_FIELD_NUMBER: _ClassVar[int]
    page: int
    last_page: int
    headings: _containers.RepeatedScalarFieldContainer[str]
    start_index: int
    end_index: int
    def __init__(self, page: _Optional[int] = ..., last_page: _Optional[int] = ..., headings: _Optional[_Iterable[str]] = ..., start_index: _Optional[int] = ..., end_index: _Optional[int] = ...) -> None: ...

class EmbeddingInput(_message.Message):
    __slots__ = ("id", "content", "embedding", "metadata", "created_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    content: str
    embedding: _containers.RepeatedScalarFieldContainer[float]
    metadata: _struct_pb2.Struct
    created_at: int
    def __init__(self, id: _Optional[str] = ..., content: _Optional[str] = ..., embedding: _Optional[_Iterable[float]] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., created_at: _Optional[int] = ...) -> None: ...

class TextContent(_message.Message):
    __slots__ = ("type", "text")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    type: str
    text: str
    def __init__(self, type: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class CreateEmbeddingRequest(_message.Message):
    __slots__ = ("vector_store_id", "embedding", "mode")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    embedding: EmbeddingInput
    mode: WriteMode
    def __init__(self, vector_store_id: _Optional[str] = ..., embedding: _Optional[_Union[EmbeddingInput, _Mapping]] = ..., mode: _Optional[_Union[WriteMode, str]] = ...) -> None: ...

class BatchCreateEmbeddingsRequest(_message.Message):
    __slots__ = ("vector_store_id", "embeddings", "include_content", "mode")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_CONTENT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    embeddings: _containers.RepeatedCompositeFieldContainer[EmbeddingInput]
    include_content: bool
    mode: WriteMode
    def __init__(self, vector_store_id: _Optional[str] = ..., embeddings: _Optional[_Iterable[_Union[EmbeddingInput, _Mapping]]] = ..., include_content: bool = ..., mode: _Optional[_Union[WriteMode, str]] = ...) -> None: ...

class BatchCreateEmbeddingsResponse(_message.Message):
    __slots__ = ("object", "data", "created", "skipped_ids")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_IDS_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[Embedding]
    created: int
    skipped_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[Embedding, _Mapping]]] = ..., created: _Optional[int] = ..., skipped_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class GetEmbeddingRequest(_message.Message):
    __slots__ = ("vector_store_id", "embedding_id")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    embedding_id: str
    def __init__(self, vector_store_id: _Optional[str] = ..., embedding_id: _Optional[str] = ...) -> None: ...

class ListEmbeddingsRequest(_message.Message):
    __slots__ = ("vector_store_id", "limit", "after", "before", "order", "include_embedding")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    limit: int
    after: str
    before: str
    order: _paging_pb2.Order
    include_embedding: bool
    def __init__(self, vector_store_id: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ..., before: _Optional[str] = ..., order: _Optional[_Union[_paging_pb2.Order, str]] = ..., include_embedding: bool = ...) -> None: ...

class ListEmbeddingsResponse(_message.Message):
    __slots__ = ("object", "data", "first_id", "last_id", "has_more")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[Embedding]
    first_id: str
    last_id: str
    has_more: bool
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[Embedding, _Mapping]]] = ..., first_id: _Optional[str] = ..., last_id: _Optional[str] = ..., has_more: bool = ...) -> None: ...

class DeleteEmbeddingRequest(_message.Message):
    __slots__ = ("vector_store_id", "embedding_id")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    embedding_id: str
    def __init__(self, vector_store_id: _Optional[str] = ..., embedding_id: _Optional[str] = ...) -> None: ...

class DeleteEmbeddingResponse(_message.Message):
    __slots__ = ("id", "object", "deleted")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    deleted: bool
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., deleted: bool = ...) -> None: ...

class BatchDeleteEmbeddingsRequest(_message.Message):
    __slots__ = ("vector_store_id", "embedding_ids")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_IDS_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    embedding_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, vector_store_id: _Optional[str] = ..., embedding_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchDeleteEmbeddingsResponse(_message.Message):
    __slots__ = ("object", "deleted_ids")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DELETED_IDS_FIELD_NUMBER: _ClassVar[int]
    object: str
    deleted_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, object: _Optional[str] = ..., deleted_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class UpdateEmbeddingRequest(_message.Message):
    __slots__ = ("vector_store_id", "embedding_id", "content", "embedding", "metadata", "metadata_merge", "update_mask")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    METADATA_MERGE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    embedding_id: str
    content: str
    embedding: _containers.RepeatedScalarFieldContainer[float]
    metadata: _struct_pb2.Struct
    metadata_merge: _struct_pb2.Struct
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, vector_store_id: _Optional[str] = ..., embedding_id: _Optional[str] = ..., content: _Optional[str] = ..., embedding: _Optional[_Iterable[float]] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., metadata_merge: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class PurgeEmbeddingsRequest(_message.Message):
    __slots__ = ("vector_store_id", "filters")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    filters: _filters_pb2.Filter
    def __init__(self, vector_store_id: _Optional[str] = ..., filters: _Optional[_Union[_filters_pb2.Filter, _Mapping]] = ...) -> None: ...

class PurgeEmbeddingsResponse(_message.Message):
    __slots__ = ("object", "deleted_count")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DELETED_COUNT_FIELD_NUMBER: _ClassVar[int]
    object: str
    deleted_count: int
    def __init__(self, object: _Optional[str] = ..., deleted_count: _Optional[int] = ...) -> None: ...

class QueryEmbeddingsRequest(_message.Message):
    __slots__ = ("vector_store_id", "filters", "order_by", "limit", "page", "include")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    filters: _filters_pb2.Filter
    order_by: EmbeddingsOrder
    limit: int
    page: str
    include: _containers.RepeatedScalarFieldContainer[EmbeddingField]
    def __init__(self, vector_store_id: _Optional[str] = ..., filters: _Optional[_Union[_filters_pb2.Filter, _Mapping]] = ..., order_by: _Optional[_Union[EmbeddingsOrder, _Mapping]] = ..., limit: _Optional[int] = ..., page: _Optional[str] = ..., include: _Optional[_Iterable[_Union[EmbeddingField, str]]] = ...) -> None: ...

class EmbeddingsOrder(_message.Message):
    __slots__ = ("attribute", "type", "order")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    type: _indexes_pb2.AttributeType
    order: _paging_pb2.Order
    def __init__(self, attribute: _Optional[str] = ..., type: _Optional[_Union[_indexes_pb2.AttributeType, str]] = ..., order: _Optional[_Union[_paging_pb2.Order, str]] = ...) -> None: ...

class QueryEmbeddingsResponse(_message.Message):
    __slots__ = ("object", "data", "has_more", "next_page")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[Embedding]
    has_more: bool
    next_page: str
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[Embedding, _Mapping]]] = ..., has_more: bool = ..., next_page: _Optional[str] = ...) -> None: ...

class CountEmbeddingsRequest(_message.Message):
    __slots__ = ("vector_store_id", "filters")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    filters: _filters_pb2.Filter
    def __init__(self, vector_store_id: _Optional[str] = ..., filters: _Optional[_Union[_filters_pb2.Filter, _Mapping]] = ...) -> None: ...

class CountEmbeddingsResponse(_message.Message):
    __slots__ = ("object", "count")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    object: str
    count: int
    def __init__(self, object: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class FacetEmbeddingsRequest(_message.Message):
    __slots__ = ("vector_store_id", "filters", "attributes", "values_max")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    VALUES_MAX_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    filters: _filters_pb2.Filter
    attributes: _containers.RepeatedScalarFieldContainer[str]
    values_max: int
    def __init__(self, vector_store_id: _Optional[str] = ..., filters: _Optional[_Union[_filters_pb2.Filter, _Mapping]] = ..., attributes: _Optional[_Iterable[str]] = ..., values_max: _Optional[int] = ...) -> None: ...

class FacetEmbeddingsResponse(_message.Message):
    __slots__ = ("object", "data")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[EmbeddingFacet]
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[EmbeddingFacet, _Mapping]]] = ...) -> None: ...

class EmbeddingFacet(_message.Message):
    __slots__ = ("attribute", "values", "has_more")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    values: _containers.RepeatedCompositeFieldContainer[EmbeddingFacetValue]
    has_more: bool
    def __init__(self, attribute: _Optional[str] = ..., values: _Optional[_Iterable[_Union[EmbeddingFacetValue, _Mapping]]] = ..., has_more: bool = ...) -> None: ...

class EmbeddingFacetValue(_message.Message):
    __slots__ = ("value", "count")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    value: _struct_pb2.Value
    count: int
    def __init__(self, value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., count: _Optional[int] = ...) -> None: ...
