"""One store, as plain values: what applications and the adapters for frameworks need most."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Awaitable, Dict, Iterable, List, Optional, Sequence, Tuple, TypeVar, Union

import grpc

from .rows import RowLike, cut_batches
from .v1.embeddings_pb2 import (
    BatchCreateEmbeddingsRequest,
    BatchDeleteEmbeddingsRequest,
    Embedding,
    GetEmbeddingRequest,
    PurgeEmbeddingsRequest,
    WriteMode,
)
from .v1.search_pb2 import SearchRequest, SearchResponse
from .v1.vector_stores_pb2 import CreateVectorStoreRequest
from .values import FilterLike, Vector, encode_field, encode_vector, match_all, read_struct, to_filter

DELETES_MAX = 1_000
READS_AT_ONCE = 32

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """A row that was found or read. `score`: 0 to 1 for a search; `embedding` only when the row was read."""

    id: str
    content: str
    metadata: Dict[str, Any]
    score: float = 1.0
    embedding: List[float] = field(default_factory=list, repr=False)


class Store:
    """One store."""

    def __init__(self, client: Any, store_id: str):
        self._client = client
        self.id = store_id

    def ensure(self, dimensions: Optional[int] = None) -> Store:
        """Creates the store unless it exists."""
        try:
            self._client.vector_stores.CreateVectorStore(_make_creation(self.id, dimensions))
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                raise
        return self

    def upsert(self, rows: Iterable[RowLike]) -> List[str]:
        """Adds or replaces rows, in calls of up to 1 MiB, each all or none. Returns their ids. For many rows see `Client.load`."""
        ids: List[str] = []
        for request in _make_upserts(self.id, rows):
            ids.extend(row.id for row in self._client.embeddings.BatchCreateEmbeddings(request).data)
        return ids

    def search(
        self,
        query: Union[str, Sequence[str], None] = None,
        embedding: Optional[Vector] = None,
        limit: int = 10,
        filters: Optional[FilterLike] = None,
        **options: Any,
    ) -> List[Found]:
        """Finds rows by a text or a vector. `options` are further fields of SearchRequest."""
        request = _make_search(self.id, query, embedding, limit, filters, options)
        return _read_results(self._client.search.Search(request))

    def get(self, ids: Iterable[str]) -> List[Found]:
        """Reads rows with their vectors; ids that do not exist are left out."""
        found: List[Found] = []
        for some in _slice(ids, READS_AT_ONCE):
            calls = [self._client.embeddings.GetEmbedding.future(request) for request in _make_reads(self.id, some)]
            for call in calls:
                try:
                    found.append(_read_embedding(call.result()))
                except grpc.RpcError as error:
                    _require_missing(error)
        return found

    def delete(self, ids: Iterable[str]) -> List[str]:
        """Deletes rows. Returns the ids of those that existed."""
        deleted: List[str] = []
        for some in _slice(ids, DELETES_MAX):
            request = BatchDeleteEmbeddingsRequest(vector_store_id=self.id, embedding_ids=some)
            deleted.extend(self._client.embeddings.BatchDeleteEmbeddings(request).deleted_ids)
        return deleted

    def purge(self, filters: Optional[FilterLike]) -> int:
        """Deletes the rows that match; None: all. Returns how many there were."""
        return self._client.embeddings.PurgeEmbeddings(_make_purge(self.id, filters)).deleted_count


class AsyncStore:
    """One store, in an event loop."""

    def __init__(self, client: Any, store_id: str):
        self._client = client
        self.id = store_id

    async def ensure(self, dimensions: Optional[int] = None) -> AsyncStore:
        """Creates the store unless it exists."""
        try:
            await self._client.vector_stores.CreateVectorStore(_make_creation(self.id, dimensions))
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                raise
        return self

    async def upsert(self, rows: Iterable[RowLike]) -> List[str]:
        """Adds or replaces rows, in calls of up to 1 MiB, each all or none. Returns their ids. For many rows see `AsyncClient.load`."""
        ids: List[str] = []
        for request in _make_upserts(self.id, rows):
            ids.extend(row.id for row in (await self._client.embeddings.BatchCreateEmbeddings(request)).data)
        return ids

    async def search(
        self,
        query: Union[str, Sequence[str], None] = None,
        embedding: Optional[Vector] = None,
        limit: int = 10,
        filters: Optional[FilterLike] = None,
        **options: Any,
    ) -> List[Found]:
        """Finds rows by a text or a vector. `options` are further fields of SearchRequest."""
        request = _make_search(self.id, query, embedding, limit, filters, options)
        return _read_results(await self._client.search.Search(request))

    async def get(self, ids: Iterable[str]) -> List[Found]:
        """Reads rows with their vectors; ids that do not exist are left out."""
        found: List[Found] = []
        for some in _slice(ids, READS_AT_ONCE):
            calls = [_settle(self._client.embeddings.GetEmbedding(request)) for request in _make_reads(self.id, some)]
            for row, error in await asyncio.gather(*calls):
                if error is not None:
                    _require_missing(error)
                else:
                    found.append(_read_embedding(row))
        return found

    async def delete(self, ids: Iterable[str]) -> List[str]:
        """Deletes rows. Returns the ids of those that existed."""
        deleted: List[str] = []
        for some in _slice(ids, DELETES_MAX):
            request = BatchDeleteEmbeddingsRequest(vector_store_id=self.id, embedding_ids=some)
            deleted.extend((await self._client.embeddings.BatchDeleteEmbeddings(request)).deleted_ids)
        return deleted

    async def purge(self, filters: Optional[FilterLike]) -> int:
        """Deletes the rows that match; None: all. Returns how many there were."""
        return (await self._client.embeddings.PurgeEmbeddings(_make_purge(self.id, filters))).deleted_count


def _make_creation(store_id: str, dimensions: Optional[int]) -> CreateVectorStoreRequest:
    return CreateVectorStoreRequest(id=store_id, dimensions=dimensions)


def _make_upserts(store_id: str, rows: Iterable[RowLike]) -> Iterable[BatchCreateEmbeddingsRequest]:
    for batch in cut_batches(rows):
        yield BatchCreateEmbeddingsRequest(
            vector_store_id=store_id, embeddings=batch.rows, mode=WriteMode.WRITE_MODE_UPSERT
        )


def _make_search(
    store_id: str,
    query: Union[str, Sequence[str], None],
    embedding: Optional[Vector],
    limit: int,
    filters: Optional[FilterLike],
    options: Dict[str, Any],
) -> SearchRequest:
    request = SearchRequest(vector_store_id=store_id, limit=limit, **options)
    if query is not None:
        request.query.extend([query] if isinstance(query, str) else query)
    if embedding is not None:
        request.MergeFromString(encode_field(3, encode_vector(embedding)))
    if filters:
        request.filters.CopyFrom(to_filter(filters))
    return request


def _make_reads(store_id: str, ids: Iterable[str]) -> List[GetEmbeddingRequest]:
    return [GetEmbeddingRequest(vector_store_id=store_id, embedding_id=each) for each in ids]


def _make_purge(store_id: str, filters: Optional[FilterLike]) -> PurgeEmbeddingsRequest:
    condition = match_all() if filters is None else to_filter(filters)
    return PurgeEmbeddingsRequest(vector_store_id=store_id, filters=condition)


def _read_results(response: SearchResponse) -> List[Found]:
    return [
        Found(row.id, "".join(part.text for part in row.content), read_struct(row.attributes), row.score)
        for row in response.data
    ]


def _read_embedding(row: Embedding) -> Found:
    return Found(row.id, row.content, read_struct(row.metadata), embedding=list(row.embedding))


async def _settle(call: Awaitable[T]) -> Tuple[Optional[T], Optional[grpc.RpcError]]:
    try:
        return await call, None
    except grpc.RpcError as error:
        return None, error


def _require_missing(error: grpc.RpcError) -> None:
    if error.code() != grpc.StatusCode.NOT_FOUND:
        raise error


def _slice(items: Iterable[str], count: int) -> Iterable[List[str]]:
    everything = list(items)
    return (everything[start : start + count] for start in range(0, len(everything), count))
