from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from pgquiver.v1 import access_pb2 as _access_pb2
from pgquiver.v1 import files_pb2 as _files_pb2
from pgquiver.v1 import options_pb2 as _options_pb2
from pgquiver.v1 import vector_store_files_pb2 as _vector_store_files_pb2
from pgquiver.v1 import vector_stores_pb2 as _vector_stores_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExportProjectRequest(_message.Message):
    __slots__ = ("project_id",)
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    def __init__(self, project_id: _Optional[str] = ...) -> None: ...

class ExportedItem(_message.Message):
    __slots__ = ("project", "file", "file_data", "vector_store", "vector_store_file", "row", "end")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    FILE_DATA_FIELD_NUMBER: _ClassVar[int]
    VECTOR_STORE_FIELD_NUMBER: _ClassVar[int]
    VECTOR_STORE_FILE_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    project: _access_pb2.Project
    file: _files_pb2.File
    file_data: bytes
    vector_store: _vector_stores_pb2.VectorStore
    vector_store_file: _vector_store_files_pb2.VectorStoreFile
    row: ExportedRow
    end: ExportEnd
    def __init__(self, project: _Optional[_Union[_access_pb2.Project, _Mapping]] = ..., file: _Optional[_Union[_files_pb2.File, _Mapping]] = ..., file_data: _Optional[bytes] = ..., vector_store: _Optional[_Union[_vector_stores_pb2.VectorStore, _Mapping]] = ..., vector_store_file: _Optional[_Union[_vector_store_files_pb2.VectorStoreFile, _Mapping]] = ..., row: _Optional[_Union[ExportedRow, _Mapping]] = ..., end: _Optional[_Union[ExportEnd, _Mapping]] = ...) -> None: ...

class ExportedRow(_message.Message):
    __slots__ = ("id", "content", "embedding", "metadata", "created_at", "file_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    content: str
    embedding: bytes
    metadata: _struct_pb2.Struct
    created_at: int
    file_id: str
    def __init__(self, id: _Optional[str] = ..., content: _Optional[str] = ..., embedding: _Optional[bytes] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., created_at: _Optional[int] = ..., file_id: _Optional[str] = ...) -> None: ...

class ExportEnd(_message.Message):
    __slots__ = ("vector_stores", "rows", "files", "file_bytes")
    VECTOR_STORES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    FILE_BYTES_FIELD_NUMBER: _ClassVar[int]
    vector_stores: int
    rows: int
    files: int
    file_bytes: int
    def __init__(self, vector_stores: _Optional[int] = ..., rows: _Optional[int] = ..., files: _Optional[int] = ..., file_bytes: _Optional[int] = ...) -> None: ...

class EraseProjectRequest(_message.Message):
    __slots__ = ("project_id",)
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    def __init__(self, project_id: _Optional[str] = ...) -> None: ...

class GetProjectErasureRequest(_message.Message):
    __slots__ = ("project_id",)
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    def __init__(self, project_id: _Optional[str] = ...) -> None: ...

class ProjectErasure(_message.Message):
    __slots__ = ("object", "project_id", "status", "requested_at", "requested_by", "completed_at", "vector_stores", "rows", "usage_bytes", "files", "file_bytes", "api_keys", "other_rows", "remaining_rows", "last_error")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_BY_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_AT_FIELD_NUMBER: _ClassVar[int]
    VECTOR_STORES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    USAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    FILE_BYTES_FIELD_NUMBER: _ClassVar[int]
    API_KEYS_FIELD_NUMBER: _ClassVar[int]
    OTHER_ROWS_FIELD_NUMBER: _ClassVar[int]
    REMAINING_ROWS_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    object: str
    project_id: str
    status: str
    requested_at: int
    requested_by: str
    completed_at: int
    vector_stores: int
    rows: int
    usage_bytes: int
    files: int
    file_bytes: int
    api_keys: int
    other_rows: int
    remaining_rows: int
    last_error: str
    def __init__(self, object: _Optional[str] = ..., project_id: _Optional[str] = ..., status: _Optional[str] = ..., requested_at: _Optional[int] = ..., requested_by: _Optional[str] = ..., completed_at: _Optional[int] = ..., vector_stores: _Optional[int] = ..., rows: _Optional[int] = ..., usage_bytes: _Optional[int] = ..., files: _Optional[int] = ..., file_bytes: _Optional[int] = ..., api_keys: _Optional[int] = ..., other_rows: _Optional[int] = ..., remaining_rows: _Optional[int] = ..., last_error: _Optional[str] = ...) -> None: ...
