from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from pgquiver.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IndexWorkUnit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INDEX_WORK_UNIT_UNSPECIFIED: _ClassVar[IndexWorkUnit]
    INDEX_WORK_UNIT_ROWS: _ClassVar[IndexWorkUnit]
    INDEX_WORK_UNIT_BLOCKS: _ClassVar[IndexWorkUnit]
    INDEX_WORK_UNIT_TUPLES: _ClassVar[IndexWorkUnit]

class AttributeType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTRIBUTE_TYPE_UNSPECIFIED: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_NUMBER: _ClassVar[AttributeType]
    ATTRIBUTE_TYPE_STRING: _ClassVar[AttributeType]

class IndexMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INDEX_METHOD_UNSPECIFIED: _ClassVar[IndexMethod]
    INDEX_METHOD_HNSW: _ClassVar[IndexMethod]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_FLOAT32: _ClassVar[Precision]
    PRECISION_FLOAT16: _ClassVar[Precision]
    PRECISION_BINARY: _ClassVar[Precision]

class IndexState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INDEX_STATE_UNSPECIFIED: _ClassVar[IndexState]
    INDEX_STATE_NONE: _ClassVar[IndexState]
    INDEX_STATE_WAITING: _ClassVar[IndexState]
    INDEX_STATE_MOVING: _ClassVar[IndexState]
    INDEX_STATE_BUILDING: _ClassVar[IndexState]
    INDEX_STATE_READY: _ClassVar[IndexState]
    INDEX_STATE_FAILED: _ClassVar[IndexState]

class IndexPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INDEX_POLICY_UNSPECIFIED: _ClassVar[IndexPolicy]
    INDEX_POLICY_AUTO: _ClassVar[IndexPolicy]
    INDEX_POLICY_ALWAYS: _ClassVar[IndexPolicy]
    INDEX_POLICY_NEVER: _ClassVar[IndexPolicy]
INDEX_WORK_UNIT_UNSPECIFIED: IndexWorkUnit
INDEX_WORK_UNIT_ROWS: IndexWorkUnit
INDEX_WORK_UNIT_BLOCKS: IndexWorkUnit
INDEX_WORK_UNIT_TUPLES: IndexWorkUnit
ATTRIBUTE_TYPE_UNSPECIFIED: AttributeType
ATTRIBUTE_TYPE_NUMBER: AttributeType
ATTRIBUTE_TYPE_STRING: AttributeType
INDEX_METHOD_UNSPECIFIED: IndexMethod
INDEX_METHOD_HNSW: IndexMethod
PRECISION_UNSPECIFIED: Precision
PRECISION_FLOAT32: Precision
PRECISION_FLOAT16: Precision
PRECISION_BINARY: Precision
INDEX_STATE_UNSPECIFIED: IndexState
INDEX_STATE_NONE: IndexState
INDEX_STATE_WAITING: IndexState
INDEX_STATE_MOVING: IndexState
INDEX_STATE_BUILDING: IndexState
INDEX_STATE_READY: IndexState
INDEX_STATE_FAILED: IndexState
INDEX_POLICY_UNSPECIFIED: IndexPolicy
INDEX_POLICY_AUTO: IndexPolicy
INDEX_POLICY_ALWAYS: IndexPolicy
INDEX_POLICY_NEVER: IndexPolicy

class Index(_message.Message):
    __slots__ = ("object", "vector_store_id", "policy", "state", "progress", "rows", "index_bytes", "table_bytes", "table", "method", "precision", "m", "ef_construction", "built_at", "last_error", "requested", "blocked_by", "attribute_indexes", "target_recall", "recall", "filtered_recall", "other_index_bytes", "bytes_per_row", "keyword_index", "work", "nodes")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    INDEX_BYTES_FIELD_NUMBER: _ClassVar[int]
    TABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    M_FIELD_NUMBER: _ClassVar[int]
    EF_CONSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    BUILT_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_BY_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_INDEXES_FIELD_NUMBER: _ClassVar[int]
    TARGET_RECALL_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    FILTERED_RECALL_FIELD_NUMBER: _ClassVar[int]
    OTHER_INDEX_BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_ROW_FIELD_NUMBER: _ClassVar[int]
    KEYWORD_INDEX_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    object: str
    vector_store_id: str
    policy: IndexPolicy
    state: IndexState
    progress: float
    rows: int
    index_bytes: int
    table_bytes: int
    table: str
    method: IndexMethod
    precision: Precision
    m: int
    ef_construction: int
    built_at: int
    last_error: str
    requested: IndexSettings
    blocked_by: _containers.RepeatedCompositeFieldContainer[IndexBlocker]
    attribute_indexes: _containers.RepeatedCompositeFieldContainer[AttributeIndex]
    target_recall: float
    recall: Recall
    filtered_recall: Recall
    other_index_bytes: int
    bytes_per_row: int
    keyword_index: bool
    work: IndexWork
    nodes: _containers.RepeatedCompositeFieldContainer[IndexNode]
    def __init__(self, object: _Optional[str] = ..., vector_store_id: _Optional[str] = ..., policy: _Optional[_Union[IndexPolicy, str]] = ..., state: _Optional[_Union[IndexState, str]] = ..., progress: _Optional[float] = ..., rows: _Optional[int] = ..., index_bytes: _Optional[int] = ..., table_bytes: _Optional[int] = ..., table: _Optional[str] = ..., method: _Optional[_Union[IndexMethod, str]] = ..., precision: _Optional[_Union[Precision, str]] = ..., m: _Optional[int] = ..., ef_construction: _Optional[int] = ..., built_at: _Optional[int] = ..., last_error: _Optional[str] = ..., requested: _Optional[_Union[IndexSettings, _Mapping]] = ..., blocked_by: _Optional[_Iterable[_Union[IndexBlocker, _Mapping]]] = ..., attribute_indexes: _Optional[_Iterable[_Union[AttributeIndex, _Mapping]]] = ..., target_recall: _Optional[float] = ..., recall: _Optional[_Union[Recall, _Mapping]] = ..., filtered_recall: _Optional[_Union[Recall, _Mapping]] = ..., other_index_bytes: _Optional[int] = ..., bytes_per_row: _Optional[int] = ..., keyword_index: bool = ..., work: _Optional[_Union[IndexWork, _Mapping]] = ..., nodes: _Optional[_Iterable[_Union[IndexNode, _Mapping]]] = ...) -> None: ...

class IndexNode(_message.Message):
    __slots__ = ("name", "shards", "bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    shards: int
    bytes: int
    def __init__(self, name: _Optional[str] = ..., shards: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class IndexWork(_message.Message):
    __slots__ = ("phase", "unit", "done", "total", "seconds_left")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    phase: str
    unit: IndexWorkUnit
    done: int
    total: int
    seconds_left: float
    def __init__(self, phase: _Optional[str] = ..., unit: _Optional[_Union[IndexWorkUnit, str]] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., seconds_left: _Optional[float] = ...) -> None: ...

class Recall(_message.Message):
    __slots__ = ("recall", "ef_search", "queries", "measured_at")
    RECALL_FIELD_NUMBER: _ClassVar[int]
    EF_SEARCH_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    MEASURED_AT_FIELD_NUMBER: _ClassVar[int]
    recall: float
    ef_search: int
    queries: int
    measured_at: int
    def __init__(self, recall: _Optional[float] = ..., ef_search: _Optional[int] = ..., queries: _Optional[int] = ..., measured_at: _Optional[int] = ...) -> None: ...

class AttributeIndex(_message.Message):
    __slots__ = ("key", "type", "state", "bytes", "automatic")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_FIELD_NUMBER: _ClassVar[int]
    key: str
    type: AttributeType
    state: IndexState
    bytes: int
    automatic: bool
    def __init__(self, key: _Optional[str] = ..., type: _Optional[_Union[AttributeType, str]] = ..., state: _Optional[_Union[IndexState, str]] = ..., bytes: _Optional[int] = ..., automatic: bool = ...) -> None: ...

class IndexedAttribute(_message.Message):
    __slots__ = ("key", "type")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    key: str
    type: AttributeType
    def __init__(self, key: _Optional[str] = ..., type: _Optional[_Union[AttributeType, str]] = ...) -> None: ...

class IndexBlocker(_message.Message):
    __slots__ = ("pid", "name", "role", "state", "age_seconds")
    PID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    pid: int
    name: str
    role: str
    state: str
    age_seconds: float
    def __init__(self, pid: _Optional[int] = ..., name: _Optional[str] = ..., role: _Optional[str] = ..., state: _Optional[str] = ..., age_seconds: _Optional[float] = ...) -> None: ...

class IndexSettings(_message.Message):
    __slots__ = ("precision", "m", "ef_construction")
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    M_FIELD_NUMBER: _ClassVar[int]
    EF_CONSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    precision: Precision
    m: int
    ef_construction: int
    def __init__(self, precision: _Optional[_Union[Precision, str]] = ..., m: _Optional[int] = ..., ef_construction: _Optional[int] = ...) -> None: ...

class GetIndexRequest(_message.Message):
    __slots__ = ("vector_store_id",)
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    def __init__(self, vector_store_id: _Optional[str] = ...) -> None: ...

class WatchIndexRequest(_message.Message):
    __slots__ = ("vector_store_id",)
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    def __init__(self, vector_store_id: _Optional[str] = ...) -> None: ...

class UpdateIndexRequest(_message.Message):
    __slots__ = ("vector_store_id", "policy", "precision", "m", "ef_construction", "update_mask", "indexed_attributes", "target_recall", "keyword_index")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    M_FIELD_NUMBER: _ClassVar[int]
    EF_CONSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    INDEXED_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    TARGET_RECALL_FIELD_NUMBER: _ClassVar[int]
    KEYWORD_INDEX_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    policy: IndexPolicy
    precision: Precision
    m: int
    ef_construction: int
    update_mask: _field_mask_pb2.FieldMask
    indexed_attributes: _containers.RepeatedCompositeFieldContainer[IndexedAttribute]
    target_recall: float
    keyword_index: bool
    def __init__(self, vector_store_id: _Optional[str] = ..., policy: _Optional[_Union[IndexPolicy, str]] = ..., precision: _Optional[_Union[Precision, str]] = ..., m: _Optional[int] = ..., ef_construction: _Optional[int] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., indexed_attributes: _Optional[_Iterable[_Union[IndexedAttribute, _Mapping]]] = ..., target_recall: _Optional[float] = ..., keyword_index: bool = ...) -> None: ...

class RebuildIndexRequest(_message.Message):
    __slots__ = ("vector_store_id",)
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    def __init__(self, vector_store_id: _Optional[str] = ...) -> None: ...
