"""The adapter for LlamaIndex, through LlamaIndex' own types."""

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode  # noqa: E402
from llama_index.core.vector_stores.types import (  # noqa: E402
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from pgquiver.llamaindex import PgquiverVectorStore  # noqa: E402


def make_node(name, vector, **metadata):
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc-{name[0]}")}
    return TextNode(id_=name, text=f"text {name}", embedding=vector, metadata=metadata, relationships=source)


@pytest.fixture
def store(client, store_id):
    made = PgquiverVectorStore(client, store_id)
    made.add([make_node("a1", [1, 0, 0], year=2024, tags=["x"]), make_node("a2", [0, 1, 0], year=2025, tags=["x", "y"])])
    made.add([make_node("b1", [0, 0, 1], year=2026)])
    return made


def ids_of(nodes):
    return sorted(node.node_id for node in nodes)


def where(*filters, condition=FilterCondition.AND):
    return MetadataFilters(filters=[MetadataFilter(key=k, value=v, operator=o) for k, o, v in filters], condition=condition)


def test_finds_nodes_as_they_were_added(store):
    result = store.query(VectorStoreQuery(query_embedding=[1, 0, 0], similarity_top_k=2))
    assert result.ids[0] == "a1" and result.similarities[0] == 1
    node = result.nodes[0]
    assert (node.text, node.metadata, node.ref_doc_id) == ("text a1", {"year": 2024, "tags": ["x"]}, "doc-a")


def test_filters_by_every_operator_it_has(store):
    cases = [
        (where(("year", FilterOperator.GTE, 2025)), ["a2", "b1"]),
        (where(("year", FilterOperator.IN, [2024, 2026])), ["a1", "b1"]),
        (where(("tags", FilterOperator.CONTAINS, "y")), ["a2"]),
        (where(("tags", FilterOperator.ALL, ["x", "y"])), ["a2"]),
        (where(("tags", FilterOperator.IS_EMPTY, None)), ["b1"]),
        (where(("year", FilterOperator.EQ, 2024), ("year", FilterOperator.EQ, 2026), condition=FilterCondition.OR), ["a1", "b1"]),
    ]
    for filters, expected in cases:
        query = VectorStoreQuery(query_embedding=[1, 1, 1], similarity_top_k=9, filters=filters)
        assert sorted(store.query(query).ids) == expected
        assert ids_of(store.get_nodes(filters=filters)) == expected
    only = VectorStoreQuery(query_embedding=[1, 1, 1], similarity_top_k=9, doc_ids=["doc-a"], node_ids=["a2", "b1"])
    assert store.query(only).ids == ["a2"]


def test_finds_by_vector_and_words(store):
    query = VectorStoreQuery([1, 0, 0], 1, query_str="b1", mode=VectorStoreQueryMode.HYBRID, alpha=0.0)
    assert store.query(query).ids == ["b1"]


def test_deletes_documents_nodes_and_everything(store):
    store.delete("doc-b")
    assert ids_of(store.get_nodes()) == ["a1", "a2"]
    store.delete_nodes(["a1", "none"])
    assert ids_of(store.get_nodes(["a1", "a2"])) == ["a2"]
    store.clear()
    assert store.get_nodes() == []
