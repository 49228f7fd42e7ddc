from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from pgquiver.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListAuditLogsRequest(_message.Message):
    __slots__ = ("effective_at", "project_ids", "event_types", "actor_ids", "resource_ids", "limit", "after", "before")
    EFFECTIVE_AT_FIELD_NUMBER: _ClassVar[int]
    PROJECT_IDS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    ACTOR_IDS_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_IDS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    effective_at: TimeRange
    project_ids: _containers.RepeatedScalarFieldContainer[str]
    event_types: _containers.RepeatedScalarFieldContainer[str]
    actor_ids: _containers.RepeatedScalarFieldContainer[str]
    resource_ids: _containers.RepeatedScalarFieldContainer[str]
    limit: int
    after: str
    before: str
    def __init__(self, effective_at: _Optional[_Union[TimeRange, _Mapping]] = ..., project_ids: _Optional[_Iterable[str]] = ..., event_types: _Optional[_Iterable[str]] = ..., actor_ids: _Optional[_Iterable[str]] = ..., resource_ids: _Optional[_Iterable[str]] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ..., before: _Optional[str] = ...) -> None: ...

class TimeRange(_message.Message):
    __slots__ = ("gt", "gte", "lt", "lte")
    GT_FIELD_NUMBER: _ClassVar[int]
    GTE_FIELD_NUMBER: _ClassVar[int]
    LT_FIELD_NUMBER: _ClassVar[int]
    LTE_FIELD_NUMBER: _ClassVar[int]
    gt: int
    gte: int
    lt: int
    lte: int
    def __init__(self, gt: _Optional[int] = ..., gte: _Optional[int] = ..., lt: _Optional[int] = ..., lte: _Optional[int] = ...) -> None: ...

class ListAuditLogsResponse(_message.Message):
    __slots__ = ("object", "data", "first_id", "last_id", "has_more")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FIRST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[AuditLog]
    first_id: str
    last_id: str
    has_more: bool
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[AuditLog, _Mapping]]] = ..., first_id: _Optional[str] = ..., last_id: _Optional[str] = ..., has_more: bool = ...) -> None: ...

class AuditLog(_message.Message):
    __slots__ = ("id", "object", "type", "effective_at", "project", "actor", "details", "outcome", "count", "ip_address", "forwarded_for", "user_agent", "request_id", "rpc", "protocol")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_AT_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    IP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_FOR_FIELD_NUMBER: _ClassVar[int]
    USER_AGENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RPC_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    type: str
    effective_at: int
    project: AuditProject
    actor: AuditActor
    details: _struct_pb2.Struct
    outcome: str
    count: int
    ip_address: str
    forwarded_for: str
    user_agent: str
    request_id: str
    rpc: str
    protocol: str
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., type: _Optional[str] = ..., effective_at: _Optional[int] = ..., project: _Optional[_Union[AuditProject, _Mapping]] = ..., actor: _Optional[_Union[AuditActor, _Mapping]] = ..., details: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., outcome: _Optional[str] = ..., count: _Optional[int] = ..., ip_address: _Optional[str] = ..., forwarded_for: _Optional[str] = ..., user_agent: _Optional[str] = ..., request_id: _Optional[str] = ..., rpc: _Optional[str] = ..., protocol: _Optional[str] = ...) -> None: ...

class AuditProject(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class AuditActor(_message.Message):
    __slots__ = ("type", "api_key")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    API_KEY_FIELD_NUMBER: _ClassVar[int]
    type: str
    api_key: AuditApiKey
    def __init__(self, type: _Optional[str] = ..., api_key: _Optional[_Union[AuditApiKey, _Mapping]] = ...) -> None: ...

class AuditApiKey(_message.Message):
    __slots__ = ("id", "type", "service_account")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    id: str
    type: str
    service_account: AuditServiceAccount
    def __init__(self, id: _Optional[str] = ..., type: _Optional[str] = ..., service_account: _Optional[_Union[AuditServiceAccount, _Mapping]] = ...) -> None: ...

class AuditServiceAccount(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...
