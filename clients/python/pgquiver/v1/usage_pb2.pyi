from google.api import annotations_pb2 as _annotations_pb2
from pgquiver.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetEmbeddingsUsageRequest(_message.Message):
    __slots__ = ("start_time", "end_time", "bucket_width", "project_ids", "api_key_ids", "models", "group_by", "limit", "page")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    BUCKET_WIDTH_FIELD_NUMBER: _ClassVar[int]
    PROJECT_IDS_FIELD_NUMBER: _ClassVar[int]
    API_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    start_time: int
    end_time: int
    bucket_width: str
    project_ids: _containers.RepeatedScalarFieldContainer[str]
    api_key_ids: _containers.RepeatedScalarFieldContainer[str]
    models: _containers.RepeatedScalarFieldContainer[str]
    group_by: _containers.RepeatedScalarFieldContainer[str]
    limit: int
    page: str
    def __init__(self, start_time: _Optional[int] = ..., end_time: _Optional[int] = ..., bucket_width: _Optional[str] = ..., project_ids: _Optional[_Iterable[str]] = ..., api_key_ids: _Optional[_Iterable[str]] = ..., models: _Optional[_Iterable[str]] = ..., group_by: _Optional[_Iterable[str]] = ..., limit: _Optional[int] = ..., page: _Optional[str] = ...) -> None: ...

class GetEmbeddingsUsageResponse(_message.Message):
    __slots__ = ("object", "data", "has_more", "next_page")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[EmbeddingsUsageBucket]
    has_more: bool
    next_page: str
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[EmbeddingsUsageBucket, _Mapping]]] = ..., has_more: bool = ..., next_page: _Optional[str] = ...) -> None: ...

class EmbeddingsUsageBucket(_message.Message):
    __slots__ = ("object", "start_time", "end_time", "results")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    object: str
    start_time: int
    end_time: int
    results: _containers.RepeatedCompositeFieldContainer[EmbeddingsUsage]
    def __init__(self, object: _Optional[str] = ..., start_time: _Optional[int] = ..., end_time: _Optional[int] = ..., results: _Optional[_Iterable[_Union[EmbeddingsUsage, _Mapping]]] = ...) -> None: ...

class EmbeddingsUsage(_message.Message):
    __slots__ = ("object", "input_tokens", "num_model_requests", "project_id", "user_id", "api_key_id", "model")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_MODEL_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    API_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    object: str
    input_tokens: int
    num_model_requests: int
    project_id: str
    user_id: str
    api_key_id: str
    model: str
    def __init__(self, object: _Optional[str] = ..., input_tokens: _Optional[int] = ..., num_model_requests: _Optional[int] = ..., project_id: _Optional[str] = ..., user_id: _Optional[str] = ..., api_key_id: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class GetVectorStoresUsageRequest(_message.Message):
    __slots__ = ("start_time", "end_time", "bucket_width", "project_ids", "group_by", "limit", "page")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    BUCKET_WIDTH_FIELD_NUMBER: _ClassVar[int]
    PROJECT_IDS_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    start_time: int
    end_time: int
    bucket_width: str
    project_ids: _containers.RepeatedScalarFieldContainer[str]
    group_by: _containers.RepeatedScalarFieldContainer[str]
    limit: int
    page: str
    def __init__(self, start_time: _Optional[int] = ..., end_time: _Optional[int] = ..., bucket_width: _Optional[str] = ..., project_ids: _Optional[_Iterable[str]] = ..., group_by: _Optional[_Iterable[str]] = ..., limit: _Optional[int] = ..., page: _Optional[str] = ...) -> None: ...

class GetVectorStoresUsageResponse(_message.Message):
    __slots__ = ("object", "data", "has_more", "next_page")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[VectorStoresUsageBucket]
    has_more: bool
    next_page: str
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[VectorStoresUsageBucket, _Mapping]]] = ..., has_more: bool = ..., next_page: _Optional[str] = ...) -> None: ...

class VectorStoresUsageBucket(_message.Message):
    __slots__ = ("object", "start_time", "end_time", "results")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    object: str
    start_time: int
    end_time: int
    results: _containers.RepeatedCompositeFieldContainer[VectorStoresUsage]
    def __init__(self, object: _Optional[str] = ..., start_time: _Optional[int] = ..., end_time: _Optional[int] = ..., results: _Optional[_Iterable[_Union[VectorStoresUsage, _Mapping]]] = ...) -> None: ...

class VectorStoresUsage(_message.Message):
    __slots__ = ("object", "usage_bytes", "project_id")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    USAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    object: str
    usage_bytes: int
    project_id: str
    def __init__(self, object: _Optional[str] = ..., usage_bytes: _Optional[int] = ..., project_id: _Optional[str] = ...) -> None: ...
