from google.protobuf import struct_pb2 as _struct_pb2
from pgquiver.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FilterValueType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILTER_VALUE_TYPE_UNSPECIFIED: _ClassVar[FilterValueType]
    FILTER_VALUE_TYPE_DATE: _ClassVar[FilterValueType]

class FilterType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILTER_TYPE_UNSPECIFIED: _ClassVar[FilterType]
    FILTER_TYPE_EQ: _ClassVar[FilterType]
    FILTER_TYPE_NE: _ClassVar[FilterType]
    FILTER_TYPE_GT: _ClassVar[FilterType]
    FILTER_TYPE_GTE: _ClassVar[FilterType]
    FILTER_TYPE_LT: _ClassVar[FilterType]
    FILTER_TYPE_LTE: _ClassVar[FilterType]
    FILTER_TYPE_IN: _ClassVar[FilterType]
    FILTER_TYPE_NIN: _ClassVar[FilterType]
    FILTER_TYPE_AND: _ClassVar[FilterType]
    FILTER_TYPE_OR: _ClassVar[FilterType]
    FILTER_TYPE_EXISTS: _ClassVar[FilterType]
    FILTER_TYPE_CONTAINS: _ClassVar[FilterType]
    FILTER_TYPE_PREFIX: _ClassVar[FilterType]
    FILTER_TYPE_TEXT: _ClassVar[FilterType]
    FILTER_TYPE_SUFFIX: _ClassVar[FilterType]
    FILTER_TYPE_SUBSTRING: _ClassVar[FilterType]
    FILTER_TYPE_NOT: _ClassVar[FilterType]
FILTER_VALUE_TYPE_UNSPECIFIED: FilterValueType
FILTER_VALUE_TYPE_DATE: FilterValueType
FILTER_TYPE_UNSPECIFIED: FilterType
FILTER_TYPE_EQ: FilterType
FILTER_TYPE_NE: FilterType
FILTER_TYPE_GT: FilterType
FILTER_TYPE_GTE: FilterType
FILTER_TYPE_LT: FilterType
FILTER_TYPE_LTE: FilterType
FILTER_TYPE_IN: FilterType
FILTER_TYPE_NIN: FilterType
FILTER_TYPE_AND: FilterType
FILTER_TYPE_OR: FilterType
FILTER_TYPE_EXISTS: FilterType
FILTER_TYPE_CONTAINS: FilterType
FILTER_TYPE_PREFIX: FilterType
FILTER_TYPE_TEXT: FilterType
FILTER_TYPE_SUFFIX: FilterType
FILTER_TYPE_SUBSTRING: FilterType
FILTER_TYPE_NOT: FilterType

class Filter(_message.Message):
    __slots__ = ("type", "key", "value", "filters", "value_type")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    VALUE_TYPE_FIELD_NUMBER: _ClassVar[int]
    type: FilterType
    key: str
    value: _struct_pb2.Value
    filters: _containers.RepeatedCompositeFieldContainer[Filter]
    value_type: FilterValueType
    def __init__(self, type: _Optional[_Union[FilterType, str]] = ..., key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., filters: _Optional[_Iterable[_Union[Filter, _Mapping]]] = ..., value_type: _Optional[_Union[FilterValueType, str]] = ...) -> None: ...
