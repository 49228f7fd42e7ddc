from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Scope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCOPE_UNSPECIFIED: _ClassVar[Scope]
    SCOPE_STORES_READ: _ClassVar[Scope]
    SCOPE_STORES_WRITE: _ClassVar[Scope]
    SCOPE_EMBEDDINGS_READ: _ClassVar[Scope]
    SCOPE_EMBEDDINGS_WRITE: _ClassVar[Scope]
    SCOPE_INGEST: _ClassVar[Scope]
    SCOPE_SEARCH: _ClassVar[Scope]
    SCOPE_FILES_READ: _ClassVar[Scope]
    SCOPE_FILES_WRITE: _ClassVar[Scope]
    SCOPE_INDEXES_ADMIN: _ClassVar[Scope]
    SCOPE_PROJECTS_ADMIN: _ClassVar[Scope]
    SCOPE_OPERATOR: _ClassVar[Scope]
    SCOPE_ANY: _ClassVar[Scope]
SCOPE_UNSPECIFIED: Scope
SCOPE_STORES_READ: Scope
SCOPE_STORES_WRITE: Scope
SCOPE_EMBEDDINGS_READ: Scope
SCOPE_EMBEDDINGS_WRITE: Scope
SCOPE_INGEST: Scope
SCOPE_SEARCH: Scope
SCOPE_FILES_READ: Scope
SCOPE_FILES_WRITE: Scope
SCOPE_INDEXES_ADMIN: Scope
SCOPE_PROJECTS_ADMIN: Scope
SCOPE_OPERATOR: Scope
SCOPE_ANY: Scope
MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
max_items: _descriptor.FieldDescriptor
MIN_VALUE_FIELD_NUMBER: _ClassVar[int]
min_value: _descriptor.FieldDescriptor
MAX_VALUE_FIELD_NUMBER: _ClassVar[int]
max_value: _descriptor.FieldDescriptor
MIN_LENGTH_FIELD_NUMBER: _ClassVar[int]
min_length: _descriptor.FieldDescriptor
MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
max_length: _descriptor.FieldDescriptor
PATTERN_FIELD_NUMBER: _ClassVar[int]
pattern: _descriptor.FieldDescriptor
MIN_ITEMS_FIELD_NUMBER: _ClassVar[int]
min_items: _descriptor.FieldDescriptor
AUDITED_FIELD_NUMBER: _ClassVar[int]
audited: _descriptor.FieldDescriptor
MAX_REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
max_request_bytes: _descriptor.FieldDescriptor
SCOPE_FIELD_NUMBER: _ClassVar[int]
scope: _descriptor.FieldDescriptor
SHOWS_READERS_OWN_FIELD_NUMBER: _ClassVar[int]
shows_readers_own: _descriptor.FieldDescriptor
WATCHES_FIELD_NUMBER: _ClassVar[int]
watches: _descriptor.FieldDescriptor
AUDIT_FIELD_NUMBER: _ClassVar[int]
audit: _descriptor.FieldDescriptor
