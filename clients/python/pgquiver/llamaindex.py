"""A vector store for LlamaIndex."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Union

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
from pydantic import PrivateAttr

from .client import Client
from .store import Found, Store
from .v1.embeddings_pb2 import EMBEDDING_FIELD_CONTENT, EMBEDDING_FIELD_METADATA, QueryEmbeddingsRequest
from .v1.search_pb2 import HybridSearch, RankingOptions
from .values import match_all, read_struct, to_filter

JsonFilter = Dict[str, Any]

_OPERATORS = {
    FilterOperator.EQ: "eq",
    FilterOperator.NE: "ne",
    FilterOperator.GT: "gt",
    FilterOperator.GTE: "gte",
    FilterOperator.LT: "lt",
    FilterOperator.LTE: "lte",
    FilterOperator.IN: "in",
    FilterOperator.NIN: "nin",
    FilterOperator.CONTAINS: "contains",
}


class PgquiverVectorStore(BasePydanticVectorStore):
    """A store of pgquiver, which is created unless it exists. The queries are by vector, or hybrid, by vector and words."""

    stores_text: bool = True
    flat_metadata: bool = False
    store_id: str

    _client: Client = PrivateAttr()
    _store: Store = PrivateAttr()

    def __init__(self, client: Client, store_id: str = "llamaindex", *, create: bool = True):
        super().__init__(store_id=store_id, stores_text=True)
        self._client = client
        self._store = client.store(store_id)
        if create:
            self._store.ensure()

    @classmethod
    def class_name(cls) -> str:
        """Returns the name under which LlamaIndex knows the class."""
        return "PgquiverVectorStore"

    @property
    def client(self) -> Client:
        """The client."""
        return self._client

    def add(self, nodes: Sequence[BaseNode], **_: Any) -> List[str]:
        """Adds nodes with their vectors, or replaces those whose ids exist."""
        rows = {node.node_id: _to_row(node) for node in nodes}
        self._store.upsert(rows.values())
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        """Deletes the nodes of a document."""
        self._store.purge({"type": "eq", "key": "ref_doc_id", "value": ref_doc_id})

    def delete_nodes(
        self, node_ids: Optional[List[str]] = None, filters: Optional[MetadataFilters] = None, **_: Any
    ) -> None:
        """Deletes nodes by id, or by a filter; of both, those that meet both."""
        if filters is not None and node_ids is not None:
            node_ids = [node.node_id for node in self.get_nodes(node_ids, filters)]
        if node_ids is not None:
            self._store.delete(node_ids)
        elif filters is not None:
            self._store.purge(_to_json_filter(filters))

    def clear(self) -> None:
        """Deletes all nodes."""
        self._store.purge(None)

    def get_nodes(
        self, node_ids: Optional[List[str]] = None, filters: Optional[MetadataFilters] = None
    ) -> List[BaseNode]:
        """Reads nodes by id, or by a filter; of both, those that meet both."""
        if node_ids is not None and filters is None:
            return [_to_node(row) for row in self._store.get(node_ids)]
        condition = match_all() if filters is None else to_filter(_to_json_filter(filters))
        request = QueryEmbeddingsRequest(vector_store_id=self.store_id, filters=condition, limit=1000)
        request.include.extend([EMBEDDING_FIELD_CONTENT, EMBEDDING_FIELD_METADATA])
        nodes: List[BaseNode] = []
        while True:
            page = self._client.embeddings.QueryEmbeddings(request)
            nodes.extend(_to_node(Found(row.id, row.content, read_struct(row.metadata))) for row in page.data)
            if not page.has_more:
                break
            request.page = page.next_page
        return nodes if node_ids is None else [node for node in nodes if node.node_id in set(node_ids)]

    def query(self, query: VectorStoreQuery, **options: Any) -> VectorStoreQueryResult:
        """Finds nodes by a vector, or by a vector and words."""
        is_hybrid = query.mode == VectorStoreQueryMode.HYBRID
        if not is_hybrid and query.mode != VectorStoreQueryMode.DEFAULT:
            raise ValueError(f"pgquiver has no queries of mode {query.mode}")
        limit = query.similarity_top_k
        if is_hybrid:
            limit = query.hybrid_top_k or limit
            weight = 0.5 if query.alpha is None else query.alpha
            hybrid = HybridSearch(embedding_weight=weight, text_weight=1 - weight)
            options["ranking_options"] = RankingOptions(hybrid_search=hybrid)
        found = self._store.search(
            query=query.query_str if is_hybrid or query.query_embedding is None else None,
            embedding=query.query_embedding,
            limit=limit,
            filters=_make_condition(query),
            **options,
        )
        nodes = [_to_node(row) for row in found]
        return VectorStoreQueryResult(nodes=nodes, similarities=[row.score for row in found], ids=[row.id for row in found])


def _to_row(node: BaseNode) -> Dict[str, Any]:
    metadata = node_to_metadata_dict(node, remove_text=True, flat_metadata=False)
    # Filters find nodes by id too, and a query may name some.
    metadata["node_id"] = node.node_id
    text = node.get_content() or " "
    return {"id": node.node_id, "content": text, "embedding": node.embedding, "metadata": metadata}


def _to_node(row: Found) -> BaseNode:
    node = metadata_dict_to_node(row.metadata)
    node.metadata.pop("node_id", None)
    node.set_content(row.content)
    if row.embedding:
        node.embedding = row.embedding
    return node


def _make_condition(query: VectorStoreQuery) -> Optional[JsonFilter]:
    conditions: List[JsonFilter] = []
    if query.filters is not None and query.filters.filters:
        conditions.append(_to_json_filter(query.filters))
    if query.doc_ids:
        conditions.append({"type": "in", "key": "ref_doc_id", "value": query.doc_ids})
    if query.node_ids:
        conditions.append({"type": "in", "key": "node_id", "value": query.node_ids})
    return {"type": "and", "filters": conditions} if conditions else None


def _to_json_filter(condition: Union[MetadataFilters, MetadataFilter]) -> JsonFilter:
    if isinstance(condition, MetadataFilters):
        parts = [_to_json_filter(each) for each in condition.filters]
        if condition.condition not in (FilterCondition.AND, FilterCondition.OR, None):
            raise ValueError(f"pgquiver has no filters joined by {condition.condition}")
        return {"type": "or" if condition.condition == FilterCondition.OR else "and", "filters": parts}
    if condition.operator == FilterOperator.IS_EMPTY:
        return {"type": "exists", "key": condition.key, "value": False}
    if condition.operator in (FilterOperator.ANY, FilterOperator.ALL):
        parts = [{"type": "contains", "key": condition.key, "value": value} for value in condition.value]
        return {"type": "or" if condition.operator == FilterOperator.ANY else "and", "filters": parts}
    name = _OPERATORS.get(condition.operator)
    if name is None:
        raise ValueError(f"pgquiver has no filters of operator {condition.operator}")
    return {"type": name, "key": condition.key, "value": condition.value}
