"""A VectorStore for LangChain."""

from __future__ import annotations

import asyncio
import uuid
import weakref
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from .client import AsyncClient, Client
from .store import AsyncStore, Found
from .values import FilterLike

Row = Dict[str, Any]


class PgquiverVectorStore(VectorStore):
    """
    A store of pgquiver. `embedding`: what embeds texts; without it the service does. The store is created unless it exists.
    Searches take `filter`, a mapping of equalities or OpenAI's filters, and further fields of SearchRequest by name.
    """

    def __init__(self, client: Client, store_id: str, embedding: Optional[Embeddings] = None, *, create: bool = True):
        self._client = client
        self._store = client.store(store_id)
        self._embedding = embedding
        # A connection of gRPC's belongs to one event loop.
        self._async_clients: weakref.WeakKeyDictionary[Any, AsyncClient] = weakref.WeakKeyDictionary()
        if create:
            self._store.ensure()

    @property
    def embeddings(self) -> Optional[Embeddings]:
        """What embeds texts; None: the service."""
        return self._embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Optional[List[dict]] = None,
        *,
        ids: Optional[Sequence[Optional[str]]] = None,
        **_: Any,
    ) -> List[str]:
        """Adds texts, or replaces those whose ids exist. Returns their ids."""
        contents = list(texts)
        vectors = self._embedding.embed_documents(contents) if self._embedding and contents else None
        rows, row_ids = _make_rows(contents, vectors, metadatas, ids)
        self._store.upsert(rows)
        return row_ids

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Optional[List[dict]] = None,
        *,
        ids: Optional[Sequence[Optional[str]]] = None,
        **_: Any,
    ) -> List[str]:
        """Adds texts, or replaces those whose ids exist. Returns their ids."""
        contents = list(texts)
        vectors = await self._embedding.aembed_documents(contents) if self._embedding and contents else None
        rows, row_ids = _make_rows(contents, vectors, metadatas, ids)
        await self._async_store().upsert(rows)
        return row_ids

    def delete(self, ids: Optional[List[str]] = None, **_: Any) -> bool:
        """Deletes documents by id; without ids, all."""
        if ids is None:
            self._store.purge(None)
        else:
            self._store.delete(ids)
        return True

    async def adelete(self, ids: Optional[List[str]] = None, **_: Any) -> bool:
        """Deletes documents by id; without ids, all."""
        if ids is None:
            await self._async_store().purge(None)
        else:
            await self._async_store().delete(ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> List[Document]:
        """Reads documents; ids that do not exist are left out."""
        return [_to_document(row) for row in self._store.get(ids)]

    async def aget_by_ids(self, ids: Sequence[str], /) -> List[Document]:
        """Reads documents; ids that do not exist are left out."""
        return [_to_document(row) for row in await self._async_store().get(ids)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Optional[FilterLike] = None, **options: Any
    ) -> List[Tuple[Document, float]]:
        """Finds documents, with scores from 0 to 1; 1 is the same direction."""
        given = {"embedding": self._embedding.embed_query(query)} if self._embedding else {"query": query}
        return _with_scores(self._store.search(limit=k, filters=filter, **given, **options))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, filter: Optional[FilterLike] = None, **options: Any
    ) -> List[Tuple[Document, float]]:
        """Finds documents, with scores from 0 to 1; 1 is the same direction."""
        given = {"embedding": await self._embedding.aembed_query(query)} if self._embedding else {"query": query}
        return _with_scores(await self._async_store().search(limit=k, filters=filter, **given, **options))

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> List[Document]:
        """Finds documents."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **options)]

    async def asimilarity_search(self, query: str, k: int = 4, **options: Any) -> List[Document]:
        """Finds documents."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **options)]

    def similarity_search_by_vector(
        self, embedding: List[float], k: int = 4, filter: Optional[FilterLike] = None, **options: Any
    ) -> List[Document]:
        """Finds documents by a vector."""
        return [_to_document(row) for row in self._store.search(embedding=embedding, limit=k, filters=filter, **options)]

    async def asimilarity_search_by_vector(
        self, embedding: List[float], k: int = 4, filter: Optional[FilterLike] = None, **options: Any
    ) -> List[Document]:
        """Finds documents by a vector."""
        found = await self._async_store().search(embedding=embedding, limit=k, filters=filter, **options)
        return [_to_document(row) for row in found]

    def max_marginal_relevance_search_by_vector(
        self, embedding: List[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> List[Document]:
        """Finds documents that are near to the vector and far from each other. Needs numpy."""
        import numpy

        found = self._store.search(embedding=embedding, limit=fetch_k, filters=options.pop("filter", None), **options)
        rows = self._store.get(row.id for row in found)
        vectors = [row.embedding for row in rows]
        picked = maximal_marginal_relevance(numpy.array(embedding), vectors, lambda_mult=lambda_mult, k=k)
        return [_to_document(rows[index]) for index in picked]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> List[Document]:
        """Finds documents that are near to the text and far from each other. Needs numpy and `embedding`."""
        if self._embedding is None:
            raise ValueError("max_marginal_relevance_search needs an embedding")
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, **options)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda score: score

    @classmethod
    def from_texts(
        cls,
        texts: List[str],
        embedding: Optional[Embeddings] = None,  # type: ignore[override]
        metadatas: Optional[List[dict]] = None,
        *,
        client: Optional[Client] = None,
        store_id: str = "langchain",
        ids: Optional[List[str]] = None,
        **_: Any,
    ) -> PgquiverVectorStore:
        """Makes a vector store and adds texts. Without a client, Client() finds the service by PGQUIVER_URL."""
        made = cls(client or Client(), store_id, embedding)
        made.add_texts(texts, metadatas, ids=ids)
        return made

    def _async_store(self) -> AsyncStore:
        loop = asyncio.get_running_loop()
        client = self._async_clients.get(loop)
        if client is None:
            client = self._async_clients[loop] = AsyncClient(settings=self._client.settings)
        return client.store(self._store.id)


def _make_rows(
    contents: List[str],
    vectors: Optional[List[List[float]]],
    metadatas: Optional[List[dict]],
    ids: Optional[Sequence[Optional[str]]],
) -> Tuple[Iterable[Row], List[str]]:
    for column in (metadatas, ids):
        if column is not None and len(column) != len(contents):
            raise ValueError(f"{len(contents)} texts, but {len(column)} ids or metadatas")
    row_ids = [given or str(uuid.uuid4()) for given in ids or [None] * len(contents)]
    # The last row of an id wins, as in a stream: one call may not have an id twice.
    rows = {
        row_id: {
            "id": row_id,
            "content": content,
            "embedding": vectors[index] if vectors else None,
            "metadata": metadatas[index] if metadatas else None,
        }
        for index, (row_id, content) in enumerate(zip(row_ids, contents))
    }
    return rows.values(), row_ids


def _to_document(row: Found) -> Document:
    return Document(id=row.id, page_content=row.content, metadata=row.metadata)


def _with_scores(rows: List[Found]) -> List[Tuple[Document, float]]:
    return [(_to_document(row), row.score) for row in rows]
