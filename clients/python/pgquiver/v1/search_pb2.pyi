from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from pgquiver.v1 import embeddings_pb2 as _embeddings_pb2
from pgquiver.v1 import filters_pb2 as _filters_pb2
from pgquiver.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GroupBy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GROUP_BY_UNSPECIFIED: _ClassVar[GroupBy]
    GROUP_BY_FILE: _ClassVar[GroupBy]

class SearchMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH_METHOD_UNSPECIFIED: _ClassVar[SearchMethod]
    SEARCH_METHOD_EXACT: _ClassVar[SearchMethod]
    SEARCH_METHOD_INDEX: _ClassVar[SearchMethod]
    SEARCH_METHOD_KEYWORD: _ClassVar[SearchMethod]

class MergedBy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MERGED_BY_UNSPECIFIED: _ClassVar[MergedBy]
    MERGED_BY_SCORE: _ClassVar[MergedBy]
    MERGED_BY_RANK: _ClassVar[MergedBy]
GROUP_BY_UNSPECIFIED: GroupBy
GROUP_BY_FILE: GroupBy
SEARCH_METHOD_UNSPECIFIED: SearchMethod
SEARCH_METHOD_EXACT: SearchMethod
SEARCH_METHOD_INDEX: SearchMethod
SEARCH_METHOD_KEYWORD: SearchMethod
MERGED_BY_UNSPECIFIED: MergedBy
MERGED_BY_SCORE: MergedBy
MERGED_BY_RANK: MergedBy

class SearchRequest(_message.Message):
    __slots__ = ("vector_store_id", "query", "embedding", "max_num_results", "filters", "ranking_options", "rewrite_query", "ef_search", "exact", "readers", "limit", "page", "diversity", "group_by", "group_size", "include", "neighbors")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    MAX_NUM_RESULTS_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    RANKING_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    REWRITE_QUERY_FIELD_NUMBER: _ClassVar[int]
    EF_SEARCH_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    READERS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    GROUP_SIZE_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FIELD_NUMBER: _ClassVar[int]
    NEIGHBORS_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    query: _containers.RepeatedScalarFieldContainer[str]
    embedding: _containers.RepeatedScalarFieldContainer[float]
    max_num_results: int
    filters: _filters_pb2.Filter
    ranking_options: RankingOptions
    rewrite_query: bool
    ef_search: int
    exact: bool
    readers: SearchReaders
    limit: int
    page: str
    diversity: float
    group_by: GroupBy
    group_size: int
    include: _containers.RepeatedScalarFieldContainer[_embeddings_pb2.EmbeddingField]
    neighbors: int
    def __init__(self, vector_store_id: _Optional[str] = ..., query: _Optional[_Iterable[str]] = ..., embedding: _Optional[_Iterable[float]] = ..., max_num_results: _Optional[int] = ..., filters: _Optional[_Union[_filters_pb2.Filter, _Mapping]] = ..., ranking_options: _Optional[_Union[RankingOptions, _Mapping]] = ..., rewrite_query: bool = ..., ef_search: _Optional[int] = ..., exact: bool = ..., readers: _Optional[_Union[SearchReaders, _Mapping]] = ..., limit: _Optional[int] = ..., page: _Optional[str] = ..., diversity: _Optional[float] = ..., group_by: _Optional[_Union[GroupBy, str]] = ..., group_size: _Optional[int] = ..., include: _Optional[_Iterable[_Union[_embeddings_pb2.EmbeddingField, str]]] = ..., neighbors: _Optional[int] = ...) -> None: ...

class SearchReaders(_message.Message):
    __slots__ = ("any_of",)
    ANY_OF_FIELD_NUMBER: _ClassVar[int]
    any_of: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, any_of: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchSearchRequest(_message.Message):
    __slots__ = ("vector_store_id", "searches")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    SEARCHES_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    searches: _containers.RepeatedCompositeFieldContainer[SearchRequest]
    def __init__(self, vector_store_id: _Optional[str] = ..., searches: _Optional[_Iterable[_Union[SearchRequest, _Mapping]]] = ...) -> None: ...

class BatchSearchResponse(_message.Message):
    __slots__ = ("object", "data", "usage")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[SearchResponse]
    usage: SearchUsage
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[SearchResponse, _Mapping]]] = ..., usage: _Optional[_Union[SearchUsage, _Mapping]] = ...) -> None: ...

class RankingOptions(_message.Message):
    __slots__ = ("ranker", "score_threshold", "hybrid_search")
    RANKER_FIELD_NUMBER: _ClassVar[int]
    SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    HYBRID_SEARCH_FIELD_NUMBER: _ClassVar[int]
    ranker: str
    score_threshold: float
    hybrid_search: HybridSearch
    def __init__(self, ranker: _Optional[str] = ..., score_threshold: _Optional[float] = ..., hybrid_search: _Optional[_Union[HybridSearch, _Mapping]] = ...) -> None: ...

class HybridSearch(_message.Message):
    __slots__ = ("embedding_weight", "text_weight")
    EMBEDDING_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    TEXT_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    embedding_weight: float
    text_weight: float
    def __init__(self, embedding_weight: _Optional[float] = ..., text_weight: _Optional[float] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("object", "search_query", "data", "has_more", "next_page", "usage", "statistics")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    SEARCH_QUERY_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    object: str
    search_query: _containers.RepeatedScalarFieldContainer[str]
    data: _containers.RepeatedCompositeFieldContainer[SearchResult]
    has_more: bool
    next_page: str
    usage: SearchUsage
    statistics: SearchStatistics
    def __init__(self, object: _Optional[str] = ..., search_query: _Optional[_Iterable[str]] = ..., data: _Optional[_Iterable[_Union[SearchResult, _Mapping]]] = ..., has_more: bool = ..., next_page: _Optional[str] = ..., usage: _Optional[_Union[SearchUsage, _Mapping]] = ..., statistics: _Optional[_Union[SearchStatistics, _Mapping]] = ...) -> None: ...

class SearchStatistics(_message.Message):
    __slots__ = ("method", "complete", "ranker", "rerank_failed", "stages")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    RANKER_FIELD_NUMBER: _ClassVar[int]
    RERANK_FAILED_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    method: SearchMethod
    complete: bool
    ranker: str
    rerank_failed: bool
    stages: _containers.RepeatedCompositeFieldContainer[SearchStage]
    def __init__(self, method: _Optional[_Union[SearchMethod, str]] = ..., complete: bool = ..., ranker: _Optional[str] = ..., rerank_failed: bool = ..., stages: _Optional[_Iterable[_Union[SearchStage, _Mapping]]] = ...) -> None: ...

class SearchStage(_message.Message):
    __slots__ = ("name", "duration_ms", "count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    duration_ms: float
    count: int
    def __init__(self, name: _Optional[str] = ..., duration_ms: _Optional[float] = ..., count: _Optional[int] = ...) -> None: ...

class SearchResult(_message.Message):
    __slots__ = ("file_id", "filename", "score", "attributes", "content", "id", "embedding", "passage", "place")
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    PASSAGE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    file_id: str
    filename: str
    score: float
    attributes: _struct_pb2.Struct
    content: _containers.RepeatedCompositeFieldContainer[_embeddings_pb2.TextContent]
    id: str
    embedding: _containers.RepeatedScalarFieldContainer[float]
    passage: Passage
    place: _embeddings_pb2.ChunkPlace
    def __init__(self, file_id: _Optional[str] = ..., filename: _Optional[str] = ..., score: _Optional[float] = ..., attributes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., content: _Optional[_Iterable[_Union[_embeddings_pb2.TextContent, _Mapping]]] = ..., id: _Optional[str] = ..., embedding: _Optional[_Iterable[float]] = ..., passage: _Optional[_Union[Passage, _Mapping]] = ..., place: _Optional[_Union[_embeddings_pb2.ChunkPlace, _Mapping]] = ...) -> None: ...

class Passage(_message.Message):
    __slots__ = ("text", "first_chunk", "last_chunk")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FIRST_CHUNK_FIELD_NUMBER: _ClassVar[int]
    LAST_CHUNK_FIELD_NUMBER: _ClassVar[int]
    text: str
    first_chunk: int
    last_chunk: int
    def __init__(self, text: _Optional[str] = ..., first_chunk: _Optional[int] = ..., last_chunk: _Optional[int] = ...) -> None: ...

class SearchUsage(_message.Message):
    __slots__ = ("total_tokens",)
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    total_tokens: int
    def __init__(self, total_tokens: _Optional[int] = ...) -> None: ...

class SearchVectorStoresRequest(_message.Message):
    __slots__ = ("vector_store_ids", "query", "embedding", "max_num_results", "filters", "ranking_options", "rewrite_query", "ef_search", "exact", "readers", "limit", "diversity", "group_by", "group_size", "include", "neighbors")
    VECTOR_STORE_IDS_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    MAX_NUM_RESULTS_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    RANKING_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    REWRITE_QUERY_FIELD_NUMBER: _ClassVar[int]
    EF_SEARCH_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    READERS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    GROUP_SIZE_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FIELD_NUMBER: _ClassVar[int]
    NEIGHBORS_FIELD_NUMBER: _ClassVar[int]
    vector_store_ids: _containers.RepeatedScalarFieldContainer[str]
    query: _containers.RepeatedScalarFieldContainer[str]
    embedding: _containers.RepeatedScalarFieldContainer[float]
    max_num_results: int
    filters: _filters_pb2.Filter
    ranking_options: RankingOptions
    rewrite_query: bool
    ef_search: int
    exact: bool
    readers: SearchReaders
    limit: int
    diversity: float
    group_by: GroupBy
    group_size: int
    include: _containers.RepeatedScalarFieldContainer[_embeddings_pb2.EmbeddingField]
    neighbors: int
    def __init__(self, vector_store_ids: _Optional[_Iterable[str]] = ..., query: _Optional[_Iterable[str]] = ..., embedding: _Optional[_Iterable[float]] = ..., max_num_results: _Optional[int] = ..., filters: _Optional[_Union[_filters_pb2.Filter, _Mapping]] = ..., ranking_options: _Optional[_Union[RankingOptions, _Mapping]] = ..., rewrite_query: bool = ..., ef_search: _Optional[int] = ..., exact: bool = ..., readers: _Optional[_Union[SearchReaders, _Mapping]] = ..., limit: _Optional[int] = ..., diversity: _Optional[float] = ..., group_by: _Optional[_Union[GroupBy, str]] = ..., group_size: _Optional[int] = ..., include: _Optional[_Iterable[_Union[_embeddings_pb2.EmbeddingField, str]]] = ..., neighbors: _Optional[int] = ...) -> None: ...

class SearchVectorStoresResponse(_message.Message):
    __slots__ = ("object", "search_query", "data", "merged_by", "errors", "usage", "statistics")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    SEARCH_QUERY_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MERGED_BY_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    object: str
    search_query: _containers.RepeatedScalarFieldContainer[str]
    data: _containers.RepeatedCompositeFieldContainer[StoreSearchResult]
    merged_by: MergedBy
    errors: _containers.RepeatedCompositeFieldContainer[StoreSearchError]
    usage: SearchUsage
    statistics: SearchStatistics
    def __init__(self, object: _Optional[str] = ..., search_query: _Optional[_Iterable[str]] = ..., data: _Optional[_Iterable[_Union[StoreSearchResult, _Mapping]]] = ..., merged_by: _Optional[_Union[MergedBy, str]] = ..., errors: _Optional[_Iterable[_Union[StoreSearchError, _Mapping]]] = ..., usage: _Optional[_Union[SearchUsage, _Mapping]] = ..., statistics: _Optional[_Union[SearchStatistics, _Mapping]] = ...) -> None: ...

class StoreSearchResult(_message.Message):
    __slots__ = ("vector_store_id", "file_id", "filename", "score", "attributes", "content", "id", "embedding", "passage", "place")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    PASSAGE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    file_id: str
    filename: str
    score: float
    attributes: _struct_pb2.Struct
    content: _containers.RepeatedCompositeFieldContainer[_embeddings_pb2.TextContent]
    id: str
    embedding: _containers.RepeatedScalarFieldContainer[float]
    passage: Passage
    place: _embeddings_pb2.ChunkPlace
    def __init__(self, vector_store_id: _Optional[str] = ..., file_id: _Optional[str] = ..., filename: _Optional[str] = ..., score: _Optional[float] = ..., attributes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., content: _Optional[_Iterable[_Union[_embeddings_pb2.TextContent, _Mapping]]] = ..., id: _Optional[str] = ..., embedding: _Optional[_Iterable[float]] = ..., passage: _Optional[_Union[Passage, _Mapping]] = ..., place: _Optional[_Union[_embeddings_pb2.ChunkPlace, _Mapping]] = ...) -> None: ...

class StoreSearchError(_message.Message):
    __slots__ = ("vector_store_id", "code", "message")
    VECTOR_STORE_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    vector_store_id: str
    code: str
    message: str
    def __init__(self, vector_store_id: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
