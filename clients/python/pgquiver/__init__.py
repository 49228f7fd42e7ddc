"""Clients of pgquiver: OpenAI's Vector Stores API on Postgres. The messages of the API are in `pgquiver.v1`."""

from .client import AsyncClient, Client
from .errors import reason_of
from .load_state import LoadProgress, LoadResult, RefusedRow
from .rows import zip_rows
from .store import AsyncStore, Found, Store
from .values import fill_struct, match_all, read_struct, to_filter

__all__ = [
    "AsyncClient",
    "AsyncStore",
    "Client",
    "Found",
    "LoadProgress",
    "LoadResult",
    "RefusedRow",
    "Store",
    "fill_struct",
    "match_all",
    "read_struct",
    "reason_of",
    "to_filter",
    "zip_rows",
]
