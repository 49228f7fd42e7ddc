"""JSON in protobuf: metadata as google.protobuf.Struct, vectors as packed floats, filters."""

from __future__ import annotations

import array
import base64
import datetime
import decimal
import sys
import uuid
from typing import Any, Dict, Iterable, List, Mapping, Optional, Union

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from .v1.filters_pb2 import Filter, FilterType

Vector = Union[Iterable[float], bytes, str]


def fill_struct(target: Struct, values: Mapping[Any, Any]) -> None:
    """Writes a mapping into a Struct. Takes what pandas and numpy have beside JSON: scalars, arrays, times."""
    for key, value in values.items():
        _fill_value(target.fields[str(key)], value)


def _fill_value(target: Value, value: Any) -> None:
    if isinstance(value, str):
        target.string_value = value
    elif value is None or type(value).__name__ in ("NAType", "NaTType"):
        target.null_value = 0  # type: ignore[assignment]
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, (int, float, decimal.Decimal)):
        number = float(value)
        # JSON has no NaN, by which pandas marks what is missing.
        if number == number:
            target.number_value = number
        else:
            target.null_value = 0  # type: ignore[assignment]
    elif isinstance(value, Mapping):
        target.struct_value.SetInParent()
        fill_struct(target.struct_value, value)
    elif isinstance(value, (datetime.date, datetime.time)):
        target.string_value = value.isoformat()
    elif isinstance(value, uuid.UUID):
        target.string_value = str(value)
    elif hasattr(value, "tolist"):  # numpy's scalars and arrays
        _fill_value(target, value.tolist())
    elif isinstance(value, (list, tuple, set, frozenset)):
        target.list_value.SetInParent()
        for item in value:
            _fill_value(target.list_value.values.add(), item)
    else:
        raise TypeError(f"metadata is JSON, and {type(value).__name__} is not")


def read_struct(struct: Struct) -> Dict[str, Any]:
    """Reads a Struct as JSON is read: whole numbers are int."""
    return {key: _read_value(value) for key, value in struct.fields.items()}


def _read_value(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return read_struct(value.struct_value)
    if kind == "list_value":
        return [_read_value(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) < 2**63 else number
    return None if kind in (None, "null_value") else getattr(value, kind)


def encode_vector(vector: Optional[Vector]) -> bytes:
    """Encodes a vector as little-endian float32. Takes numpy's arrays, lists, such bytes themselves, and base64 of them."""
    if vector is None:
        return b""
    if isinstance(vector, bytes):
        return vector
    if isinstance(vector, str):
        return base64.b64decode(vector, validate=True)
    if hasattr(vector, "astype"):
        return vector.astype("<f4").tobytes()
    floats = array.array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()


def encode_field(number: int, data: bytes) -> bytes:
    """
    Encodes a field of bytes. A packed `repeated float` has the same bytes, and a message takes them by MergeFromString in one
    copy, where assigning a list converts number by number.
    """
    head = bytearray()
    for varint in (number << 3 | 2, len(data)):
        while varint > 127:
            head.append(varint & 127 | 128)
            varint >>= 7
        head.append(varint)
    return bytes(head) + data


FilterLike = Union[Filter, Mapping[str, Any]]


def to_filter(filters: FilterLike) -> Filter:
    """
    Makes a Filter of OpenAI's JSON form, {"type": "eq", "key": "lang", "value": "en"} or {"type": "and", "filters": [...]}. Another
    mapping is a list of equalities that must all hold: {"lang": "en", "year": 2026}.
    """
    if isinstance(filters, Filter):
        return filters
    if isinstance(filters.get("type"), str) and ("key" in filters or "filters" in filters):
        made = Filter(type=_filter_type(filters["type"]))
        if filters.get("key") is not None:
            made.key = filters["key"]
        if "value" in filters:
            _fill_value(made.value, filters["value"])
        made.filters.extend(to_filter(each) for each in filters.get("filters") or ())
        return made
    equalities: List[Filter] = []
    for key, value in filters.items():
        equality = Filter(type=FilterType.FILTER_TYPE_EQ, key=key)
        _fill_value(equality.value, value)
        equalities.append(equality)
    if len(equalities) == 1:
        return equalities[0]
    return Filter(type=FilterType.FILTER_TYPE_AND, filters=equalities)


def match_all() -> Filter:
    """Makes a Filter that every row matches: its value is in no empty list."""
    return Filter(type=FilterType.FILTER_TYPE_NIN, key="id", value=Value(list_value=ListValue()))


def _filter_type(name: str) -> FilterType:
    try:
        return FilterType.Value(f"FILTER_TYPE_{name.upper()}")  # type: ignore[return-value]
    except ValueError:
        raise ValueError(f"there is no filter of type {name!r}") from None
